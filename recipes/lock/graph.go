package lock

import (
	"cmp"
	"slices"

	"github.com/conclavehq/conclave/internal/waitqueue"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// A party is a session that holds or waits.
type party struct {
	owner string
	lease int64
}

// An edge says that one session waits for another one.
type edge struct {
	name            string
	waiter, blocker party
	holds           bool // the blocker holds the name; else it stands ahead
}

// A graph is who waits for whom in a namespace, by the lease of who waits.
type graph map[int64][]edge

func newGraph(names *state.Names) graph {
	g := make(graph)
	for n := range names.All() {
		for _, e := range edgesOf(n) {
			g[e.waiter.lease] = append(g[e.waiter.lease], e)
		}
	}
	for _, edges := range g { // the answer must not depend on the order of a map
		slices.SortFunc(edges, func(a, b edge) int {
			return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.blocker.lease, b.blocker.lease))
		})
	}
	return g
}

// edgesOf returns who waits for whom in one line: each for the nearest one ahead
// that excludes it, and whoever has none ahead for all that hold the name.
func edgesOf(n *state.Name) []edge {
	if n.Waiting() == 0 {
		return nil
	}
	name, holders, waiters := n.Text(), n.Holders(), n.Waiters()
	var edges []edge
	lastWriter, last := -1, -1
	for k := range waiters {
		w := &waiters[k]
		ahead := last
		if w.Mode == waitqueue.Shared {
			ahead = lastWriter
		} else {
			lastWriter = k
		}
		last = k
		who := party{w.Owner, w.Lease}
		if ahead >= 0 {
			edges = append(edges, edge{name, who, party{waiters[ahead].Owner, waiters[ahead].Lease}, false})
			continue
		}
		for h := range holders {
			edges = append(edges, edge{name, who, party{holders[h].Owner, holders[h].Lease}, true})
		}
	}
	return edges
}

// from returns the edges of a name's line, and then those that they lead to.
func (g graph) from(n *state.Name) []edge {
	told := edgesOf(n)
	name := n.Text()
	asked := make(map[int64]bool)
	for k := 0; k < len(told) && len(told) < maxEdges; k++ {
		for _, lease := range []int64{told[k].blocker.lease, told[k].waiter.lease} {
			if asked[lease] {
				continue
			}
			asked[lease] = true
			for _, e := range g[lease] {
				if e.name != name {
					told = append(told, e)
				}
			}
		}
	}
	return told
}

// circle returns sessions that wait for each other in a circle to which the
// name's holders or waiters lead, or nil. A session that waits for itself is
// none: it does several things at once.
func (g graph) circle(n *state.Name) []edge {
	s := search{g: g, on: make(map[int64]int), done: make(map[int64]bool)}
	for _, e := range edgesOf(n) {
		if c := s.visit(e.waiter.lease); c != nil {
			return c
		}
	}
	return nil
}

// A search goes along the edges, depth first.
type search struct {
	g    graph
	path []edge
	on   map[int64]int // where on the path a session waits
	done map[int64]bool
}

func (s *search) visit(lease int64) []edge {
	if s.done[lease] {
		return nil
	}
	s.on[lease] = len(s.path)
	for _, e := range s.g[lease] {
		next := e.blocker.lease
		if next == lease {
			continue
		}
		s.path = append(s.path, e)
		if at, ok := s.on[next]; ok {
			return slices.Clone(s.path[at:])
		}
		if c := s.visit(next); c != nil {
			return c
		}
		s.path = s.path[:len(s.path)-1]
	}
	delete(s.on, lease)
	s.done[lease] = true
	return nil
}
