// Package tlsfiles makes TLS configurations from PEM files and follows the files
// while they change: a certificate that was renewed, or an authority that was
// added, counts from the next handshake on, without a restart.
//
// Files that are broken when a change is seen leave what was loaded before in
// place, and the log says so once.
package tlsfiles
