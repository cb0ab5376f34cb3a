// Package router is the dynamic gRPC front of a host: services come and go
// while it serves, and every call passes one chain.
//
// A service is either local, an implementation in this process, or proxied to a
// connection, usually of a plugin's process. A recipe's services are published
// and withdrawn together through a [Registrar]; a [Proxy] changes its connection
// without losing a call.
//
// A call enters through [Router.Handle], from grpc-go as its handler for unknown
// services or from any other transport that can play a grpc.ServerStream. Both
// need [Codec], because messages travel undecoded and only local services see
// them decoded.
//
// # The chain
//
// From the outside in: metrics; recovery from panics; the register of calls,
// which a stop cancels, and the translation of errors; limits; the choice of the
// service, which waits while it restarts; metadata and authorisation; the streams
// of a caller; the longest time of a read; traces; the session; what
// [Router.Use] added; the service.
//
// Health and reflection are services of the router itself, derived from what is
// published, and pass the same chain.
//
// # Errors
//
// What reaches a caller is a gRPC status whose message begins with its reason
// (package internal/reason): host_stopping, recipe_restarting, recipe_failed,
// limit_*, invalid_*. An error that is no status becomes UNKNOWN and its text
// stays in the log. Texts of a plugin's connection, which name its socket, are
// replaced.
package router
