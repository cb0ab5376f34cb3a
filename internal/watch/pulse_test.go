package watch

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type told struct {
			at    time.Duration
			stale bool
			cause error
		}
		var log []told
		start, down := time.Now(), errors.New("down")
		p := newPulse(10*time.Second, func(stale bool, cause error) {
			log = append(log, told{time.Since(start), stale, cause})
		})
		at := func(d time.Duration, f func()) {
			time.Sleep(d - time.Since(start))
			f()
			synctest.Wait()
		}
		at(9*time.Second, p.heard)
		at(18*time.Second, p.heard) // silent from here
		at(20*time.Second, func() { p.failed(down) })
		at(40*time.Second, p.heard)
		at(41*time.Second, p.heard) // silent from here
		at(60*time.Second, p.heard)
		at(61*time.Second, p.close)
		at(100*time.Second, p.heard)
		want := []told{
			{28 * time.Second, true, down}, {40 * time.Second, false, nil},
			{51 * time.Second, true, errSilent}, {60 * time.Second, false, nil},
		}
		if len(log) != len(want) {
			t.Fatalf("told %v, want %v", log, want)
		}
		for i := range want {
			if log[i] != want[i] {
				t.Errorf("told %v, want %v", log[i], want[i])
			}
		}
	})
}

func TestPulseThatNobodyHears(t *testing.T) {
	p := newPulse(time.Nanosecond, nil)
	p.heard()
	p.failed(errSilent)
	p.close()
}
