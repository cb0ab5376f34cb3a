package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/config"
)

// Limits is the configuration: how many requests a second are answered, and how
// many at once after a pause.
type Limits struct {
	Rate  float64 `json:"rate"`  // requests a second, at least 1
	Burst float64 `json:"burst"` // requests at once, at least 1
}

func (l Limits) check() error {
	if l.Rate < 1 || l.Burst < 1 {
		return errors.New("rate and burst: must be at least 1")
	}
	return nil
}

func open(ctx context.Context, client *clientv3.Client, opts ...config.Option) (*config.Variable[Limits], error) {
	// snippet:ratelimit
	return config.Open[Limits](ctx, client, "ratelimit/limits", append(opts,
		config.WithDefault(Limits{Rate: 10, Burst: 20}),
		config.WithValidate(Limits.check),
	)...)
	// end
}

// A service answers as many requests as its limits let through, and tells the
// others when to come back. It holds no copy of the limits: a request that comes
// after a change is judged by it, and one that is being answered is not touched.
type service struct {
	limits *config.Variable[Limits]

	mu     sync.Mutex
	tokens float64 // of a bucket that fills at Rate and holds Burst
	filled time.Time
}

func newService(limits *config.Variable[Limits]) *service {
	return &service{limits: limits, tokens: limits.Latest().Value.Burst, filled: time.Now()}
}

// ServeHTTP answers, or refuses with 429.
func (s *service) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	now := s.limits.Latest()
	w.Header().Set("Config-Revision", fmt.Sprint(now.Revision))
	if now.Rejected != nil {
		w.Header().Set("Config-Rejected", fmt.Sprint(now.RejectedRevision))
	}
	if !s.admit(now.Value) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	fmt.Fprintln(w, "hello")
}

// admit takes a token out of the bucket, if it has one.
func (s *service) admit(l Limits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.tokens = min(l.Burst, s.tokens+l.Rate*now.Sub(s.filled).Seconds())
	s.filled = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}
