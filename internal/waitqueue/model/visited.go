package model

import "hash/maphash"

// fingerprint stands for a state. Two seeds make 128 bits: among 10^8 states the chance that any two share one
// is below 10^-22, so the set need not keep the states.
type fingerprint [2]uint64

// visited is the set of the states seen, and how each was first reached: about 34 bytes a state.
// It is an open hash table of numbers into dense slices, because a Go map of the same costs three times as much.
type visited[S comparable] struct {
	seeds   [2]maphash.Seed
	slots   []uint32 // number + 1, 0 is empty; the length is a power of two
	prints  []fingerprint
	parents []uint32
	steps   []uint16
}

func newVisited[S comparable]() *visited[S] {
	return &visited[S]{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, slots: make([]uint32, 1<<12)}
}

func (v *visited[S]) len() int { return len(v.prints) }

// origin returns the state from which the one of this number was reached first, and the number of the step.
func (v *visited[S]) origin(id uint32) (parent uint32, step uint16) {
	return v.parents[id], v.steps[id]
}

// add returns the number of s, and whether it is new.
func (v *visited[S]) add(s *S, parent uint32, step uint16) (id uint32, fresh bool) {
	p := fingerprint{maphash.Comparable(v.seeds[0], *s), maphash.Comparable(v.seeds[1], *s)}
	at := v.find(p)
	if v.slots[at] != 0 {
		return v.slots[at] - 1, false
	}
	id = uint32(len(v.prints))
	v.prints = append(v.prints, p)
	v.parents = append(v.parents, parent)
	v.steps = append(v.steps, step)
	v.slots[at] = id + 1
	if 2*len(v.prints) > len(v.slots) {
		v.grow()
	}
	return id, true
}

// find returns the slot of p, or the empty one where it belongs.
func (v *visited[S]) find(p fingerprint) uint64 {
	mask := uint64(len(v.slots) - 1)
	at := p[0] & mask
	for v.slots[at] != 0 && v.prints[v.slots[at]-1] != p {
		at = (at + 1) & mask
	}
	return at
}

func (v *visited[S]) grow() {
	v.slots = make([]uint32, 2*len(v.slots))
	for id, p := range v.prints {
		v.slots[v.find(p)] = uint32(id) + 1
	}
}
