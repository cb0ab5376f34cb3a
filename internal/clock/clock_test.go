package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclavehq/conclave/internal/clock"
)

func TestElapsedFollowsFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clock.Now()
		<-time.After(time.Hour)
		if d := clock.Since(s); d < time.Hour || d > time.Hour+time.Minute {
			t.Fatalf("elapsed %v after a fake hour", d)
		}
	})
}

func TestZeroStampIsLongAgo(t *testing.T) {
	if d := clock.Since(clock.Stamp{}); d < 24*time.Hour {
		t.Fatalf("zero stamp is only %v ago", d)
	}
}

func TestBootReadingMovesWithTheInterval(t *testing.T) {
	s := clock.Now()
	if got := s.Boot(time.Minute) - s.Boot(0); s.Boot(0) != 0 && got != time.Minute {
		t.Fatalf("a minute later reads %v later", got)
	}
}
