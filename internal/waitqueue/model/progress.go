package model

// edge is a step that is no fault, from one state to another, by their numbers.
type edge struct{ from, to uint32 }

// trapped returns a state from which no sequence of fault-free steps leads to a settled state: clients that go
// round for ever without a fault. Breadth first from the settled states, against the edges.
func trapped(states int, edges []edge, settled []uint32) (id uint32, found bool) {
	// Edges grouped by where they lead: start[n] is the first one that leads to n.
	start := make([]uint32, states+2)
	for _, e := range edges {
		start[e.to+2]++
	}
	for n := 2; n < len(start); n++ {
		start[n] += start[n-1]
	}
	from := make([]uint32, len(edges))
	for _, e := range edges {
		from[start[e.to+1]] = e.from
		start[e.to+1]++
	}
	good := make([]bool, states)
	queue := make([]uint32, 0, states)
	reach := func(id uint32) {
		if !good[id] {
			good[id] = true
			queue = append(queue, id)
		}
	}
	for _, id := range settled {
		reach(id)
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, f := range from[start[n]:start[n+1]] {
			reach(f)
		}
	}
	for id := range good {
		if !good[id] {
			return uint32(id), true
		}
	}
	return 0, false
}
