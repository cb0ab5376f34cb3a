// Package keyspace is the only place that joins, escapes and parses Conclave's
// etcd keys, and that says which names are allowed.
//
// A key of a recipe is
//
//	/conclave/<namespace>/<recipe>/<name>/<rest>
//
// Namespace and name are escaped, so that each is exactly one path segment and
// every name has exactly one spelling. A delimiter always follows the name: no
// prefix of one name covers another name, whatever the names are. The first
// segment _host belongs to the host; no namespace can produce it, because an
// underscore at the beginning of a segment is escaped.
//
// The reference for people is docs/keyspace.md.
package keyspace
