package main

import (
	"strconv"
	"testing"
	"time"
)

// A search through every order in which two hosts can claim, hand out, give
// back and die, while any request or reply may be lost or late and the clocks
// differ by a window. It runs the record's own functions.

const (
	modelQuota  = 3
	modelBlock  = 24 // more than there is
	modelClaims = 3  // in all: of two tokens, of one, of two
	modelWindow = 1000
)

// message is a transaction on its way, or waiting for its reply.
type message struct {
	kind   byte // 0 none, 'c' claim, 'g' give back
	rev    int8 // that it compares
	next   record
	amount int8
}

// modelHost is what a host has in memory.
type modelHost struct {
	epoch, left int64
	ends        int64
	out         message // sent; not applied yet
	settle      message // its reply was lost
}

// world is everything.
type world struct {
	r      record
	rev    int8
	hours  int8 // windows that have passed
	claims int8
	hosts  [2]modelHost
	late   [2]message // whose senders no longer wait
	used   [4]int8    // tokens handed out, by window
}

// defects are what the search must find.
type defects struct{ retryGiveBack, anyWindow, trustLost bool }

// now is a host's clock; the second one is up to a window behind.
func (w *world) now(host int) time.Time {
	return time.UnixMilli((int64(w.hours)-int64(host))*modelWindow + modelWindow/2)
}

func (w *world) apply(m message) bool {
	if m.rev != w.rev {
		return false
	}
	w.r, w.rev = m.next, w.rev+1
	return true
}

// got puts a claimed block into a host, as stock.add does.
func (h *modelHost) got(m message) {
	if h.epoch != m.next.Epoch {
		h.left = 0
	}
	h.epoch, h.ends = m.next.Epoch, m.next.Ends
	h.left += int64(m.amount)
}

// hold puts a message where nobody waits for it.
func (w *world) hold(m message) bool {
	for i := range w.late {
		if w.late[i].kind == 0 {
			w.late[i] = m
			return true
		}
	}
	return false
}

// next calls visit with every world that can follow.
func (w world) next(d defects, visit func(world)) {
	if w.hours < 2 {
		n := w
		n.hours++
		visit(n)
	}
	for i := range w.late {
		if w.late[i].kind != 0 {
			n := w
			n.apply(w.late[i])
			n.late[i] = message{}
			visit(n)
		}
	}
	for i := range w.hosts {
		w.acts(i, d, visit)
		w.network(i, d, visit)
	}
}

// acts is what a host does by itself.
func (w world) acts(i int, d defects, visit func(world)) {
	h := w.hosts[i]
	if crash := w; h != (modelHost{}) && (h.out.kind == 0 || crash.hold(h.out)) {
		crash.hosts[i] = modelHost{}
		visit(crash)
	}
	if h.left > 0 && w.now(i).UnixMilli() < h.ends {
		n := w
		n.hosts[i].left--
		n.used[h.epoch]++
		visit(n)
	}
	if h.out.kind != 0 || h.settle.kind != 0 {
		return
	}
	if h.left == 0 && w.claims < modelClaims {
		n := w
		n.claims++
		next, got := w.r.at(w.now(i)).claim(1+int64(n.claims%2), modelBlock, strconv.Itoa(int(n.claims)))
		if got > 0 {
			n.hosts[i].out = message{kind: 'c', rev: w.rev, next: next, amount: int8(got)}
			visit(n)
		}
	}
	if h.left > 0 {
		n := w
		n.hosts[i].left = 0
		epoch := h.epoch
		if d.anyWindow {
			epoch = w.r.Epoch
		}
		if next, changed := w.r.giveBack(epoch, h.left); changed {
			n.hosts[i].out = message{kind: 'g', rev: w.rev, next: next, amount: int8(h.left)}
		}
		visit(n)
	}
}

// network is what becomes of a host's request, and what the host makes of it.
func (w world) network(i int, d defects, visit func(world)) {
	h := w.hosts[i]
	if m := h.out; m.kind != 0 {
		answered, lost, late := w, w, w
		answered.hosts[i].out, lost.hosts[i].out, late.hosts[i].out = message{}, message{}, message{}
		if answered.apply(m) && m.kind == 'c' {
			answered.hosts[i].got(m)
		}
		visit(answered)
		lost.apply(m)
		lost.hosts[i].settle = m
		visit(lost)
		if late.hold(m) {
			late.hosts[i].settle = m
			visit(late)
		}
	}
	if m := h.settle; m.kind != 0 {
		n := w
		n.hosts[i].settle = message{}
		switch {
		case m.kind == 'c' && (w.r.Claim == m.next.Claim || d.trustLost):
			n.hosts[i].got(m)
		case m.kind == 'g' && d.retryGiveBack:
			if next, changed := w.r.giveBack(h.epoch, int64(m.amount)); changed {
				n.hosts[i].out = message{kind: 'g', rev: w.rev, next: next, amount: m.amount}
			}
		}
		visit(n)
	}
}

// broken says that more tokens were handed out, or can be, than there are.
func (w *world) broken() bool {
	for _, n := range w.used {
		if n > modelQuota {
			return true
		}
	}
	out := int64(0)
	for _, h := range w.hosts {
		if h.epoch == w.r.Epoch {
			out += h.left
		}
	}
	return w.r.Spent > modelQuota || w.r.Spent < out+int64(w.used[w.r.Epoch])
}

// search visits every world, and returns how many there are and whether one is
// broken.
func search(d defects) (worlds int, broken bool) {
	first := world{r: record{V: 1, Quota: modelQuota, Window: modelWindow, Ends: modelWindow}, rev: 1}
	seen, todo := map[world]bool{first: true}, []world{first}
	for len(todo) > 0 {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if w.broken() {
			return len(seen), true
		}
		w.next(d, func(n world) {
			if !seen[n] {
				seen[n] = true
				todo = append(todo, n)
			}
		})
	}
	return len(seen), false
}

func TestModel(t *testing.T) {
	worlds, broken := search(defects{})
	if broken {
		t.Error("more tokens than the quota")
	}
	t.Logf("%d worlds", worlds)
}

func TestModelFindsDefects(t *testing.T) {
	for name, d := range map[string]defects{
		"a give-back that is repeated":           {retryGiveBack: true},
		"a give-back to whatever window stands":  {anyWindow: true},
		"a claim that is trusted without a look": {trustLost: true},
	} {
		if _, broken := search(d); !broken {
			t.Errorf("%s is not found", name)
		}
	}
}
