// Package hostv1 is the API of a Conclave host about itself, conclave.host.v1,
// as generated from host.proto: its state, its recipes, the members of its etcd,
// and what happens to them.
//
// The contract, with what each field means and when each call fails, is
// host.proto; the comments here are its own.
package hostv1
