// Extend the methods of a node.

/** Call more after a method that may or may not be there. */
export function chain(owner, name, more) {
  const before = owner[name];
  owner[name] = function (...given) {
    const value = before?.apply(this, given);
    more(...given);
    return value;
  };
}
