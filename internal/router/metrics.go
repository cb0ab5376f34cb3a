package router

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics counts calls. Its labels are of published methods only, so a caller
// cannot make more of them.
type metrics struct {
	calls    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	seconds  *prometheus.HistogramVec
	panics   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	method := []string{"service", "method"}
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "conclave_calls_total", Help: "Calls that ended, by their gRPC code.",
		}, append(method, "code")),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "conclave_calls_in_flight", Help: "Calls that have begun and not ended.",
		}, method),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "conclave_call_seconds", Help: "How long calls took, waiting for locks and the life of streams included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10), // 100 µs to 26 s
		}, method),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "conclave_call_panics_total", Help: "Calls whose recipe panicked.",
		}, method),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.calls), reg.Register(m.inFlight), reg.Register(m.seconds), reg.Register(m.panics))
}

func labels(rt *route) (service, method string) {
	if rt.method == nil {
		return "unknown", "unknown"
	}
	return rt.method.Service(), rt.method.Name()
}

func (m *metrics) panicked(rt *route) { m.panics.WithLabelValues(labels(rt)).Inc() }

// refused counts a call that ended before it was begun.
func (m *metrics) refused(rt *route, err error) {
	service, method := labels(rt)
	code, _ := codeOf(err)
	m.calls.WithLabelValues(service, method, code.String()).Inc()
}

// observe counts the call and measures it.
func (r *Router) observe(rt *route, next handler) handler {
	service, method := labels(rt)
	calls := r.metrics.calls.MustCurryWith(prometheus.Labels{"service": service, "method": method})
	ok := calls.WithLabelValues(codes.OK.String())
	inFlight := r.metrics.inFlight.WithLabelValues(service, method)
	seconds := r.metrics.seconds.WithLabelValues(service, method)
	return func(c *call) error {
		began := time.Now()
		inFlight.Inc()
		err := next(c)
		inFlight.Dec()
		seconds.Observe(time.Since(began).Seconds())
		if err == nil {
			ok.Inc()
			return nil
		}
		code, _ := codeOf(err)
		calls.WithLabelValues(code.String()).Inc()
		return err
	}
}
