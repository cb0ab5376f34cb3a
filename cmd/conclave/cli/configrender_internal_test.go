package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// splaying is a render whose files are replaced within the splay after a change.
func splaying(splay time.Duration) *render {
	r := &render{src: &source{changed: make(chan struct{}, 1)}}
	r.splay.value, r.settle.value = splay, 250*time.Millisecond
	return r
}

func TestSplayIsRandomUpToItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for range 100 {
			began := time.Now()
			if err := splaying(time.Hour).splayed(t.Context()); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			if took < 0 || took >= time.Hour {
				t.Errorf("waited %v", took)
			}
			seen[took.Round(time.Minute)] = true
		}
		if len(seen) < 10 {
			t.Errorf("a hundred machines wait %d different times", len(seen))
		}
		began := time.Now()
		if err := splaying(0).splayed(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("without a splay: waited %v, %v", time.Since(began), err)
		}
	})
}

func TestSplayEndsWithTheCommandAndItsProgram(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := splaying(time.Hour)
		began, why := time.Now(), errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := r.splayed(ctx); !errors.Is(err, why) {
			t.Errorf("ended: %v", err)
		}
		r.program = &program{done: make(chan struct{})}
		close(r.program.done)
		if err := r.splayed(t.Context()); !errors.Is(err, exitError(0)) {
			t.Errorf("its program ended: %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// What failed is tried again without a splay: no other machine does at that moment.
func TestOnlyAChangeIsNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := splaying(time.Hour)
		if news, err := r.settled(t.Context(), true); err != nil || news {
			t.Errorf("another try: %v, %v", news, err)
		}
		r.src.changed <- struct{}{}
		if news, err := r.settled(t.Context(), true); err != nil || !news {
			t.Errorf("a change: %v, %v", news, err)
		}
	})
}
