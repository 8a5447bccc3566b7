// The seeds that a run derives for its windows, as model_patches/window/plan.py does; a test keeps the two alike.
// Pages without https have no crypto.subtle, so SHA-256 is here.

const ROOTS = primes(64);
const START = ROOTS.slice(0, 8).map((prime) => fraction(prime, 1 / 2));
const ROUND = ROOTS.map((prime) => fraction(prime, 1 / 3));

/** Return the seed of a window as text: JavaScript's numbers are too short for it. */
export function windowSeed(seed, index) {
  if (index === 0) return String(seed);
  const [high, low] = sha256(`${seed}/${index}/0`);
  return String(((BigInt(high) << 32n) | BigInt(low)) >> 1n);
}

/** Return a new seed as text. */
export function randomSeed() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return String(((BigInt(high) << 32n) | BigInt(low)) >> 1n);
}

/** Return whether a text is a seed that the server takes. */
export function isSeed(text) {
  return /^\d{1,20}$/.test(text) && BigInt(text) < 2n ** 64n;
}

/** Return the hash of a text of ASCII letters as eight numbers. */
export function sha256(text) {
  const length = text.length;
  const words = new Uint32Array(16 * Math.ceil((length + 9) / 64));
  for (let index = 0; index < length; index += 1) words[index >> 2] |= text.charCodeAt(index) << (24 - 8 * (index % 4));
  words[length >> 2] |= 0x80 << (24 - 8 * (length % 4));
  words[words.length - 1] = 8 * length;
  let hash = START;
  for (let at = 0; at < words.length; at += 16) hash = mixed(hash, words.subarray(at, at + 16));
  return hash;
}

function mixed(hash, block) {
  const w = [...block];
  for (let i = 16; i < 64; i += 1) {
    const one = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ (w[i - 15] >>> 3);
    const two = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ (w[i - 2] >>> 10);
    w[i] = (w[i - 16] + one + w[i - 7] + two) >>> 0;
  }
  let [a, b, c, d, e, f, g, h] = hash;
  for (let i = 0; i < 64; i += 1) {
    const first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + ROUND[i] + w[i];
    const second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) >>> 0, c, b, a, (first + second) >>> 0];
  }
  return [a, b, c, d, e, f, g, h].map((word, index) => (word + hash[index]) >>> 0);
}

function turned(word, count) {
  return (word >>> count) | (word << (32 - count));
}

function fraction(prime, power) {
  return Math.floor((prime ** power % 1) * 2 ** 32) >>> 0;
}

function primes(count) {
  const found = [];
  for (let number = 2; found.length < count; number += 1)
    if (found.every((prime) => number % prime)) found.push(number);
  return found;
}
