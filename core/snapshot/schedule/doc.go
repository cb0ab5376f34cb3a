// Package schedule takes snapshots of an etcd at intervals, and keeps the newest ones in a directory or in a bucket.
//
// # Places
//
// A path is a directory: each host that is given one keeps its own snapshots there. A URL is a bucket of gocloud.dev/blob, which the
// hosts of a cluster share: one of them takes each snapshot. Linked here is the driver of file:// alone. A program that runs a host
// of its own links others by importing them, such as gocloud.dev/blob/s3blob.
//
// # Guarantees
//
// A file appears in its place once it is whole, as package snapshot has checked. Files are named by time and revision, and only files
// with such names are ever counted or removed. All that is known of past runs is what lies there: nothing is kept in etcd, so that a
// restored cluster goes on by itself, and a place that was emptied is filled again at once.
//
// # Failure
//
// A snapshot that fails is logged and tried again after a tenth of the interval, at most five minutes. Old files are removed only after
// a new one has come. Two hosts may take a snapshot at the same time; that costs a file.
package schedule
