package host

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// While a database is defragmented, which takes as long as it does, vitals are taken.
func TestVitalsGoOnDuringUpkeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		changes := prometheus.NewCounter(prometheus.CounterOpts{Name: leaderMetric, Help: "x"})
		registry.MustRegister(changes)
		v := &vitals{gatherer: registry}
		ctx, cancel := context.WithCancel(t.Context())
		looks, over := 0, make(chan struct{})
		go func() {
			defer close(over)
			keep(ctx, v, func(time.Time) {
				looks++
				<-ctx.Done()
			})
		}()
		time.Sleep(vitalEvery + time.Second)
		changes.Inc()
		time.Sleep(4 * vitalEvery)
		if got := v.tell(); got.LeaderChanges != 1 || got.Window != 5*vitalEvery {
			t.Errorf("vitals: %+v", got)
		}
		cancel()
		<-over
		if looks != 1 {
			t.Errorf("looked %d times at once", looks)
		}
	})
}
