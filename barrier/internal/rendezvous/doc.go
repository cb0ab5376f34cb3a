// Package rendezvous is how processes meet on etcd: barriers that somebody holds,
// double and cyclic barriers, and latches. docs/protocol-barrier.md describes it
// transaction by transaction; the package model beside it is the same protocol,
// which a search visits completely.
//
// Three rules carry it. State decides, events only wake. A request may be applied
// later than its sender gave up, so every request names a revision that is past
// by then. And what a member does compares the generation's state key, which
// changes once per phase: members who come at one time do not disturb each other,
// and each learns of the end of its wait by one event.
package rendezvous
