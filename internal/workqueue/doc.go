// Package workqueue is the mechanism of package queue: items that move from key
// to key, each step one guarded transaction.
//
// The protocol, with what each guard is for, is docs/protocol-queue.md; the
// model beside this package searches it. A [Writer] combines what the producers
// of one session put into one queue; a [Dock] is where its consumers are served:
// a puller that takes items while somebody waits for them, and the deliveries
// that are held, those that one caller took together in a bundle. Nothing runs while nobody waits and nothing is held.
package workqueue
