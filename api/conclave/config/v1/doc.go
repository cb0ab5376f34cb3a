// Package configv1 is the configuration API of a Conclave host,
// conclave.config.v1, as generated from config.proto: versioned values with a
// history, rollback and JSON Schemas, for callers that reach etcd through a host.
//
// The contract, with what each field means and when each call fails, is
// config.proto; the comments here are its own. A Go program that has an etcd
// client needs none of this: it uses [github.com/conclavehq/conclave/config], on
// the same keys.
package configv1
