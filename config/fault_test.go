package config_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/coretest"
)

// Cuts and compaction under a watch: the last state arrives, whatever it is.
func TestVariableSurvivesCutsAndCompaction(t *testing.T) {
	k, link := key(t), etcd.Link(t)
	publish(t, k, `{"rate":1}`)
	v := opened(t, coretest.Dial(t, link.Endpoint()), k)
	for round := range 4 {
		link.Cut()
		for i := range 5 {
			publish(t, k, fmt.Sprintf(`{"rate":%d}`, 100*round+i))
		}
		last := publish(t, k, fmt.Sprintf(`{"rate":%d}`, 1000+round))
		if round%2 == 1 {
			must[*clientv3.CompactResponse](t)(etcd.Client(t).Compact(within(t), last))
		}
		link.Heal()
		s := until(t, v, "the last value", func(s *config.Snapshot[limits]) bool { return s.Revision == last })
		if s.Value.Rate != 1000+round || s.Rejected != nil {
			t.Errorf("round %d: %+v", round, *s)
		}
	}
}

// What happened to the key while nobody could look, and was compacted: the rules
// are those of a watch.
func TestTheSameRulesAfterCompaction(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(t *testing.T, key string)
		want      error
	}{
		"deleted by hand": {func(t *testing.T, key string) { del(t, valueKey(key)) }, config.ErrMissing},
		"emptied":         {func(t *testing.T, key string) { put(t, valueKey(key), "") }, config.ErrDamaged},
		"nonsense":        {func(t *testing.T, key string) { publish(t, key, "nonsense") }, config.ErrRejected},
	} {
		t.Run(name, func(t *testing.T) {
			k, link := key(t), etcd.Link(t)
			good := publish(t, k, `{"rate":5}`)
			v := opened(t, coretest.Dial(t, link.Endpoint()), k)
			link.Cut()
			tt.meanwhile(t, k)
			must[*clientv3.CompactResponse](t)(etcd.Client(t).Compact(within(t), etcd.Revision(t)))
			link.Heal()
			s := until(t, v, "a rejection", func(s *config.Snapshot[limits]) bool { return s.Rejected != nil })
			isAll(t, s.Rejected, tt.want)
			if s.Value.Rate != 5 || s.Revision != good {
				t.Errorf("snapshot %+v", *s)
			}
		})
	}
}

// A store watches as a Variable does, for tools.
func TestStoreWatch(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	step := 0
	var revs []int64
	for v, err := range s.Watch(within(t), k) {
		if err != nil {
			t.Fatal(err)
		}
		switch step {
		case 0:
			isAll(t, v.Problem, config.ErrNotFound)
			revs = append(revs, publish(t, k, "one"))
		case 1:
			if string(v.Value) != "one" || v.Revision != revs[0] || v.Problem != nil {
				t.Fatalf("step 1: %+v", *v)
			}
			del(t, valueKey(k))
		case 2:
			isAll(t, v.Problem, config.ErrMissing)
			if string(v.Value) != "one" {
				t.Fatalf("step 2: %+v", *v)
			}
			must[int64](t)(s.Publish(within(t), []config.Change{{Key: k, Value: []byte("two")}}))
		case 3:
			if string(v.Value) != "two" || v.Number != 2 {
				t.Fatalf("step 3: %+v", *v)
			}
			must[int64](t)(s.Publish(within(t), []config.Change{{Key: k, Delete: true}}))
		case 4:
			if !v.Deleted || v.Value != nil || v.Problem != nil {
				t.Fatalf("step 4: %+v", *v)
			}
			return
		}
		step++
	}
	t.Fatal("the watch ended")
}

// Publishers whose connection is cut again and again: what was answered is in the
// history at that revision, nothing is there twice, and no number is missing.
func TestPublishersSurviveCuts(t *testing.T) {
	const publishers, each = 3, 10
	k, link := key(t), etcd.Link(t)
	publish(t, k, "first")
	var mu sync.Mutex
	answered := map[string]int64{}
	var all sync.WaitGroup
	for p := range publishers {
		s := config.NewStore(coretest.Dial(t, link.Endpoint()))
		all.Go(func() {
			for i := range each {
				value := fmt.Sprint(p, "-", i)
				rev, err := s.Publish(within(t), []config.Change{{Key: k, Value: []byte(value)}})
				if err != nil {
					continue // nothing was written, or nobody knows
				}
				mu.Lock()
				answered[value] = rev
				mu.Unlock()
			}
		})
	}
	stop, cuts := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(cuts)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for cut := false; ; cut = !cut {
			select {
			case <-tick.C:
				if cut {
					link.Cut()
				} else {
					link.Heal()
				}
			case <-stop:
				link.Heal()
				return
			}
		}
	}()
	all.Wait()
	close(stop)
	<-cuts
	seen := map[string]int64{}
	h := history(t, k)
	for i, v := range h {
		if seen[string(v.Value)] != 0 || v.Number != int64(len(h)-i) {
			t.Errorf("%q is number %d at place %d, and was seen at %d", v.Value, v.Number, i, seen[string(v.Value)])
		}
		seen[string(v.Value)] = v.Revision
	}
	for value, rev := range answered {
		if seen[value] != rev {
			t.Errorf("%q was answered with %d, and is in the history at %d", value, rev, seen[value])
		}
	}
	if len(answered) == 0 {
		t.Error("nothing was published")
	}
	t.Logf("%d of %d answered, %d in the history", len(answered), publishers*each, len(h)-1)
}
