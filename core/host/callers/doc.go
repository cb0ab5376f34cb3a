// Package callers knows who may call a host, and what: from a file of names, each
// with the SHA-256 of a token or with the common name of a certificate, and a
// permission. The file is followed: a change counts within a second.
//
// Who comes over the administrator's socket may do everything: only the user who
// runs the host can open it.
package callers
