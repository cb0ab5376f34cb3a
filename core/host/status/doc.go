// Package status is what a host says of itself: HostService.
//
// Everything in it is a view. It asks etcd when it is asked, bounded by about two
// seconds, and an etcd that does not answer is an answer too: what is known is
// told, and what failed is told as a problem. Nothing here writes to etcd.
package status
