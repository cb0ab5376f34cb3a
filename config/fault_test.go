package config_test

import (
	"fmt"
	"testing"

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
