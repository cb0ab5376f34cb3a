package state

import (
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Names is what stands in a space, or a part of it.
type Names struct {
	Space

	// Reuse says that nobody keeps a name that is forgotten: it becomes the next
	// one, which saves its maps where names come and go.
	Reuse bool

	names map[string]*Name
	spare []*Name
}

// maxSpare bounds the names that wait to become others.
const maxSpare = 128

// NewNames returns a state without a name.
func NewNames(s Space) *Names { return &Names{Space: s, names: make(map[string]*Name)} }

// Apply takes in one event and returns the name that it is about, nil if it is
// about none. A name of which nothing is left is forgotten.
func (ns *Names) Apply(ev *clientv3.Event) *Name {
	segment, rest, ok := ns.Split(string(ev.Kv.Key))
	if !ok {
		return nil
	}
	n := ns.names[segment]
	if n == nil {
		n = ns.add(segment)
	}
	n.Apply(rest, ev)
	if n.empty() {
		delete(ns.names, segment)
		if ns.Reuse && len(ns.spare) < maxSpare {
			ns.spare = append(ns.spare, n)
		}
	}
	return n
}

func (ns *Names) add(segment string) *Name {
	n := &Name{}
	if last := len(ns.spare) - 1; last >= 0 {
		n, ns.spare = ns.spare[last], ns.spare[:last]
	}
	n.Segment = segment
	ns.names[segment] = n
	return n
}

// Put takes in a key as it was read.
func (ns *Names) Put(kv *mvccpb.KeyValue) *Name {
	return ns.Apply(&clientv3.Event{Type: mvccpb.PUT, Kv: kv})
}

// Get returns a name by its spelling in keys, or nil.
func (ns *Names) Get(segment string) *Name { return ns.names[segment] }

// All returns the names in no order.
func (ns *Names) All() iter.Seq[*Name] {
	return func(yield func(*Name) bool) {
		for _, n := range ns.names {
			if !yield(n) {
				return
			}
		}
	}
}
