// Package state reads what the keys of locks and elections say: who holds a name, who waits,
// in which order. It follows docs/keyspace.md and writes nothing.
package state
