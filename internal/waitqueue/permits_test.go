package waitqueue

import (
	"errors"
	"testing"
)

func permits(name string, n int) *Request {
	r := exclusive(name)
	r.Mode, r.Permits, r.Limit = Permits, n, 3
	return r
}

// A session is handed a permit again and again, and gives it back. What it
// remembers of the others' permits must not shrink by that.
func TestPermitsHandedOverDoNotShrinkTheView(t *testing.T) {
	name := etcd.Prefix(t)
	stays, _ := open(t)
	one := acquired(t, stays, permits(name, 1))
	comes, _ := open(t)
	q, _ := open(t)
	for range 4 {
		two := acquired(t, comes, permits(name, 2))
		waits := background(t, bounded(t), q, permits(name, 1))
		tickets(t, name, 1)
		released(t, two)
		released(t, served(t, waits))
	}
	var held *HeldError
	if o, err := q.TryAcquire(bounded(t), permits(name, 3)); !errors.As(err, &held) {
		if err == nil {
			released(t, o)
		}
		t.Errorf("error %v, want that the permits are held: four of three", err)
	}
	released(t, one)
	cleanedUp(t, name)
}

// A release counts once, and only what the view counts.
func TestReleasedPermitsLeaveTheView(t *testing.T) {
	for what, c := range map[string]struct{ granted, released, want int64 }{
		"counted": {5, 15, 1}, "handed over after the view": {12, 15, 3}, "gone before the view": {5, 9, 3},
	} {
		n := &name{view: permitView{rev: 10, used: 3}}
		n.gave(2, c.granted, c.released)
		if got := n.sees().used; int64(got) != c.want {
			t.Errorf("%s: %d permits in use, want %d", what, got, c.want)
		}
	}
}
