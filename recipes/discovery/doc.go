// Package discovery is the recipe that serves conclave.discovery.v1.DiscoveryService
// over the discovery library: instances of services for callers in every language.
//
// An instance is on the lease of its caller's session, and the recipe keeps
// nothing of it: any host serves any caller, and what a host does is done by the
// time it answers.
package discovery
