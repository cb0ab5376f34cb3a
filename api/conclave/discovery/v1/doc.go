// Package discoveryv1 is the discovery API of a Conclave host, conclave.discovery.v1, as
// generated from discovery.proto: instances of services for
// callers that reach etcd through a host.
//
// The contract, with what each field means and when each call fails, is
// discovery.proto; the comments here are its own. A Go program that has an etcd
// client needs none of this: it uses [github.com/conclavehq/conclave/discovery], on
// the same keys.
package discoveryv1
