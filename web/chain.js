// Extend the methods of a node.

/** Call `after` after a method that may or may not be there. */
export function chain(owner, name, after) {
  const before = owner[name];
  owner[name] = function (...given) {
    const value = before?.apply(this, given);
    after(...given);
    return value;
  };
}
