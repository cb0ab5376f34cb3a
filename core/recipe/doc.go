// Package recipe is the contract between a recipe and whatever runs it: a host,
// in its own process or in a subprocess, or a test.
//
// A recipe is a gRPC service and an etcd client: it registers the one and is
// given the other. Nothing else of Conclave leaks into it, and the same recipe
// runs in every one of those places.
//
// # Life
//
//  1. Info is called, any number of times, and Validate of a [Validator].
//  2. Open registers services and returns an instance.
//  3. The services get calls, from Open's return on.
//  4. Close is called when no new call arrives. Calls that wait may still be
//     under way; their contexts end soon, with a cause that says that the host
//     stops.
//  5. The client that the instance was given ends.
//
// # Callers and their sessions
//
// Whatever a caller owns, it owns under its session, a lease in etcd that the
// caller keeps alive through the host. A request with a field that
// (conclave.recipe.v1.method).session_field names comes with that session:
// [CallerFrom] says whose it is, and [Session] makes it a core.Session for the
// libraries. A recipe attaches keys to the caller's lease. It never renews or
// revokes it, so that a recipe which crashes, or is exchanged for the next
// version, takes nothing away from anybody. It keeps no state in memory that
// matters: the next call of the same caller may reach another host.
//
// # Keys
//
// An instance's keys begin with /conclave/<namespace>/<instance>/, whatever the
// namespace. [Env.Key] makes them and [Env.Client] is held to them. The
// libraries of this module write theirs under their own package's name, so a
// recipe that uses one of them runs under that name.
//
// # Errors
//
// Every error of a call is a gRPC status with a reason for programs to branch
// on: [Errorf] makes one, and [Status] knows those of core and of etcd.
package recipe
