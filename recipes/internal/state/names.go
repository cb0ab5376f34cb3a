package state

import (
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Names is what stands in a space, or a part of it.
type Names struct {
	Space

	names map[string]*Name
}

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
		n = &Name{Segment: segment}
		ns.names[segment] = n
	}
	n.Apply(rest, ev)
	if n.empty() {
		delete(ns.names, segment)
	}
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
