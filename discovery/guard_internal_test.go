package discovery

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The guard beside a plain statement of what it promises, at random times.
func TestGuardKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := reader{share: rapid.SampledFrom([]float64{0, 0.25, 0.5, 0.9, 1}).Draw(t, "share"), window: 10 * time.Second, hold: time.Minute, least: leastGuarded}
		g, now, alive := newGuard(r), time.Unix(0, 0), map[string]bool{}
		gone := map[string]time.Time{}
		var since time.Time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 8).Draw(t, "seconds")) * time.Second)
			id := string(rune('a' + rapid.IntRange(0, 11).Draw(t, "id")))
			switch {
			case alive[id] && rapid.Bool().Draw(t, "vanishes"):
				delete(alive, id)
				gone[id] = now
				g.vanished(Instance{ID: id}, now)
			default:
				alive[id] = true
				delete(gone, id)
				g.known(id)
			}
			was := g.holding
			next := g.judge(len(alive), now)
			if g.holding && !was {
				since = now
			}
			recent := 0
			for _, at := range gone {
				if now.Sub(at) < r.window {
					recent++
				}
			}
			all := len(alive) + recent
			mass := all >= r.least && float64(recent) > r.share*float64(all)
			switch {
			case mass && !g.holding && !was:
				t.Fatalf("%d of %d vanished, and are not kept", recent, all)
			case g.holding && !now.Before(since.Add(r.hold)):
				t.Fatal("kept for longer than allowed")
			case g.holding && next.IsZero():
				t.Fatal("kept without an end")
			}
			for kept := range g.kept() {
				if alive[kept] {
					t.Fatalf("%s is alive and kept", kept)
				}
			}
			if !g.holding && was {
				clear(gone) // given up: they are not counted again
			}
		}
	})
}
