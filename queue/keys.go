package queue

import "github.com/conclavehq/conclave/internal/workqueue"

// root returns the beginning of the queue's keys,
// /conclave/<namespace>/queue/<name>/. Which keys follow, and which transactions
// write them, is the protocol's: internal/workqueue.
func root(namespace, name string) string { return workqueue.Root(namespace, name) }
