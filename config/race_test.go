package config_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/config"
)

// Publishers on connections of their own: each publication is in the history
// once, numbered without a gap, and the last one stands.
func TestConcurrentPublishers(t *testing.T) {
	const publishers, each = 6, 8
	k := key(t)
	var all sync.WaitGroup
	errs := make(chan error, publishers*each)
	for p := range publishers {
		s := config.NewStore(etcd.Client(t), config.WithAuthor(fmt.Sprint("p", p)))
		all.Go(func() {
			for i := range each {
				_, err := s.Publish(within(t), []config.Change{{Key: k, Value: fmt.Appendf(nil, "%d-%d", p, i)}})
				errs <- err
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	versions := history(t, k)
	if len(versions) != publishers*each {
		t.Fatalf("%d versions, want %d", len(versions), publishers*each)
	}
	seen := map[string]bool{}
	for i, v := range versions {
		if v.Number != int64(len(versions)-i) || seen[string(v.Value)] || (i > 0 && v.Revision >= versions[i-1].Revision) {
			t.Errorf("version %+v at %d", *v, i)
		}
		seen[string(v.Value)] = true
	}
	now := must[*config.Version](t)(config.NewStore(etcd.Client(t)).Get(within(t), k))
	if !bytes.Equal(now.Value, versions[0].Value) || now.Revision != versions[0].Revision {
		t.Errorf("present %+v, newest in the history %+v", *now, *versions[0])
	}
}

// Of compare-and-sets on one revision exactly one succeeds.
func TestOneOfManyComparesSucceeds(t *testing.T) {
	k := key(t)
	base := publish(t, k, "0")
	var all sync.WaitGroup
	results := make(chan error, 8)
	for i := range 8 {
		s := config.NewStore(etcd.Client(t))
		all.Go(func() {
			_, err := s.Publish(within(t), []config.Change{{Key: k, Value: fmt.Append(nil, i+1), Expect: &base}})
			results <- err
		})
	}
	all.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		} else {
			isAll(t, err, config.ErrConflict)
		}
	}
	if won != 1 || len(history(t, k)) != 2 {
		t.Errorf("%d won, %d versions", won, len(history(t, k)))
	}
}

// Everything at once on one Variable: the race detector looks for what it can
// find.
func TestConcurrentUse(t *testing.T) {
	k := key(t)
	v := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: 1}), config.WithValidate(positive))
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 5 {
				if _, err := v.Set(within(t), limits{Rate: 1 + 10*i + n}); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for s, err := range v.Watch(within(t)) {
				if err != nil || s.Number == 20 {
					break
				}
			}
		})
		all.Go(func() {
			for range 10 {
				for s, err := range v.History(within(t)) {
					if err != nil || s.Rejected != nil {
						t.Error(err, s)
					}
				}
				if v.Latest().Value.Rate < 1 {
					t.Error("no value")
				}
			}
		})
	}
	all.Wait()
}
