package config_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

func session(tb testing.TB) *core.Session {
	tb.Helper()
	s := must[*core.Session](tb)(core.NewSession(within(tb), etcd.Client(tb)))
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// fleet is instances of one program, half of them with the label zone=a.
func fleet(tb testing.TB, key string, n int, opts ...config.Option) []*config.Variable[limits] {
	tb.Helper()
	s := session(tb)
	all := make([]*config.Variable[limits], n)
	for i := range all {
		zone := map[string]string{"zone": string("ab"[i%2])}
		all[i] = opened(tb, s.Client(), key, append([]config.Option{config.WithInstance(s, fmt.Sprint("i", i), zone), config.WithDefault(limits{Rate: 1}),
			config.WithValidate(positive)}, opts...)...)
	}
	return all
}

func start(tb testing.TB, s *config.Store, key, value string, scope config.Scope) int64 {
	tb.Helper()
	return must[int64](tb)(s.StartRollout(within(tb), config.Change{Key: key, Value: []byte(value), Codec: "json"}, scope))
}

// trying waits until as many instances as wanted have a rollout's value.
func trying(tb testing.TB, all []*config.Variable[limits], revision int64, wanted int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d instances try it", wanted), func() bool {
		n := 0
		for _, v := range all {
			if s := v.Latest(); s.Candidate && s.Revision == revision {
				n++
			}
		}
		return n == wanted
	})
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !ok(); etcd.Revision(tb) {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
	}
}

// A rollout grows from a label to all, and is promoted: whoever has its value
// keeps it to the end.
func TestRolloutGrowsAndIsPromoted(t *testing.T) {
	const n = 12
	k, s := key(t), config.NewStore(etcd.Client(t))
	publish(t, k, `{"rate":5}`)
	all := fleet(t, k, n)
	outside := opened(t, etcd.Client(t), k)
	rev := start(t, s, k, `{"rate":9}`, config.Scope{Percent: 100, Labels: map[string]string{"zone": "a"}})
	trying(t, all, rev, n/2)
	var back atomic.Bool
	for i, v := range all {
		if got := v.Latest().Value.Rate; got != []int{9, 5}[i%2] {
			t.Errorf("instance %d has %d", i, got)
		}
		if i%2 == 0 {
			go func() {
				seen := false
				for now, err := range v.Watch(context.Background()) {
					if err != nil {
						return
					}
					seen = seen || now.Value.Rate == 9
					if seen && now.Value.Rate != 9 {
						back.Store(true)
					}
				}
			}()
		}
	}
	if err := s.SetScope(within(t), k, rev, config.Scope{Percent: 100}); err != nil {
		t.Fatal(err)
	}
	trying(t, all, rev, n)
	if r := must[*config.Rollout](t)(s.Rollout(within(t), k)); r.Candidate.Revision != rev || r.Scope.Percent != 100 || r.Refused || r.Superseded {
		t.Errorf("rollout %+v", *r)
	}
	last := must[int64](t)(s.Promote(within(t), k, rev, nil, config.Message("it works")))
	for _, v := range append(all, outside) {
		got := until(t, v, "the promoted version", func(s *config.Snapshot[limits]) bool { return s.Revision == last })
		if got.Value.Rate != 9 || got.Candidate || got.Number != 2 || got.Message != "it works" {
			t.Errorf("snapshot %+v", *got)
		}
	}
	if back.Load() {
		t.Error("an instance went back on the way")
	}
	_, err := s.Rollout(within(t), k)
	isAll(t, err, config.ErrNotFound)
	_, err = s.Promote(within(t), k, rev, nil)
	isAll(t, err, config.ErrNoRollout)
}

func TestRefusalEndsARollout(t *testing.T) {
	for name, refuse := range map[string]struct {
		value  string
		opts   []config.Option
		act    func(all []*config.Variable[limits])
		reason string
	}{
		"by the check": {value: `{"rate":-9}`, reason: "rate: is not positive"},
		"by the program": {value: `{"rate":9}`, reason: "too fast", act: func(all []*config.Variable[limits]) {
			all[0].Refuse(errors.New("too\nfast"))
		}},
		"by its health": {value: `{"rate":9}`, reason: "unhealthy: errors", opts: []config.Option{
			config.WithHealth(func(context.Context) error { return errors.New("errors") }, 10*time.Millisecond),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			k, s := key(t), config.NewStore(etcd.Client(t))
			good := publish(t, k, `{"rate":5}`)
			all := fleet(t, k, 4, refuse.opts...)
			rev := start(t, s, k, refuse.value, config.Scope{Percent: 100})
			if refuse.act != nil {
				trying(t, all, rev, 4)
				refuse.act(all)
			}
			var r *config.Rollout
			eventually(t, "the rollout is refused", func() bool {
				r = must[*config.Rollout](t)(s.Rollout(within(t), k))
				return r.Refused
			})
			if !strings.HasPrefix(r.By, "i") || !strings.Contains(r.Reason, refuse.reason) {
				t.Errorf("refused by %q because of %q", r.By, r.Reason)
			}
			trying(t, all, rev, 0)
			for _, v := range all {
				if now := v.Latest(); now.Value.Rate != 5 || now.Revision != good {
					t.Errorf("snapshot %+v", *now)
				}
			}
			_, err := s.Promote(within(t), k, rev, nil)
			isAll(t, err, config.ErrNoRollout)
			// The next one is tried again.
			again := start(t, s, k, `{"rate":7}`, config.Scope{Percent: 100})
			if len(refuse.opts) == 0 {
				trying(t, all, again, 4)
			}
		})
	}
}

func TestAPublicationSupersedesARollout(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	publish(t, k, `{"rate":5}`)
	all := fleet(t, k, 3)
	rev := start(t, s, k, `{"rate":9}`, config.Scope{Percent: 100})
	trying(t, all, rev, 3)
	last := publish(t, k, `{"rate":6}`)
	for _, v := range all {
		until(t, v, "what was published", func(s *config.Snapshot[limits]) bool { return s.Revision == last && s.Value.Rate == 6 })
	}
	if r := must[*config.Rollout](t)(s.Rollout(within(t), k)); !r.Superseded {
		t.Errorf("rollout %+v", *r)
	}
	isAll(t, s.SetScope(within(t), k, rev, config.Scope{Percent: 50}), config.ErrNoRollout)
	if err := s.Refuse(within(t), k, rev, "ada", "late"); err != nil {
		t.Errorf("a refusal of what is over: %v", err)
	}
	// A key without a value can have one rolled out too.
	other := key(t)
	none := fleet(t, other, 2)
	rev = start(t, s, other, `{"rate":3}`, config.Scope{Percent: 100})
	trying(t, none, rev, 2)
	must[int64](t)(s.Promote(within(t), other, rev, nil))
}

// Who runs what is said by the instances, and no longer than they live.
func TestInstancesSayWhatTheyRun(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	good := publish(t, k, `{"rate":5}`)
	all := fleet(t, k, 3)
	said := func() string {
		var b strings.Builder
		for _, i := range must[[]config.Instance](t)(s.Instances(within(t), k)) {
			fmt.Fprintf(&b, "%s:%s:%d:%v:%d ", i.ID, i.Labels["zone"], i.Revision-good, i.Candidate, max(0, i.RejectedRevision-good))
		}
		return strings.TrimSpace(b.String())
	}
	wait := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { return said() == want })
	}
	wait("i0:a:0:false:0 i1:b:0:false:0 i2:a:0:false:0")
	rev := start(t, s, k, `{"rate":9}`, config.Scope{Percent: 100, Labels: map[string]string{"zone": "b"}})
	wait(fmt.Sprintf("i0:a:0:false:0 i1:b:%d:true:0 i2:a:0:false:0", rev-good))
	bad := publish(t, k, `{"rate":-1}`)
	wait(fmt.Sprintf("i0:a:0:false:%[1]d i1:b:0:false:%[1]d i2:a:0:false:%[1]d", bad-good))
	if err := all[1].Close(); err != nil {
		t.Fatal(err)
	}
	wait(fmt.Sprintf("i0:a:0:false:%[1]d i2:a:0:false:%[1]d", bad-good))
}

func TestSharesOfARollout(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	publish(t, k, `{"rate":5}`)
	all := fleet(t, k, 30)
	rev := start(t, s, k, `{"rate":9}`, config.Scope{Percent: 0.01})
	has := func() map[int]bool {
		out := make(map[int]bool)
		for i, v := range all {
			if v.Latest().Candidate {
				out[i] = true
			}
		}
		return out
	}
	before := has()
	for _, percent := range []float64{30, 60, 100} {
		if err := s.SetScope(within(t), k, rev, config.Scope{Percent: percent}); err != nil {
			t.Fatal(err)
		}
		// Whoever was in is in still, and at 100 everybody is.
		eventually(t, "a larger share", func() bool { return len(has()) > len(before) })
		now := has()
		for i := range before {
			if !now[i] {
				t.Errorf("instance %d went back at %v %%", i, percent)
			}
		}
		before = now
	}
	trying(t, all, rev, len(all))
}

func TestPromotionWithALostReply(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	publish(t, k, `{"rate":5}`)
	rev := start(t, s, k, `{"rate":9}`, config.Scope{Percent: 100})
	f, far := faulty(t)
	lost := f.LoseReply(coretest.Puts("/value"))
	last := must[int64](t)(far.Promote(within(t), k, rev, nil))
	h := history(t, k)
	if lost.Fired() != 1 || len(h) != 2 || h[0].Revision != last || string(h[0].Value) != `{"rate":9}` {
		t.Errorf("%d lost, revision %d, history %+v", lost.Fired(), last, h)
	}
}

func TestInvalidRollouts(t *testing.T) {
	k, s, sess := key(t), config.NewStore(etcd.Client(t)), session(t)
	for name, scope := range map[string]config.Scope{
		"no share":    {},
		"too much":    {Percent: 100.1},
		"negative":    {Percent: -1},
		"empty label": {Percent: 1, Labels: map[string]string{"": "x"}},
		"long label":  {Percent: 1, Labels: map[string]string{"x": strings.Repeat("x", 256)}},
	} {
		if _, err := s.StartRollout(within(t), config.Change{Key: k, Value: []byte("x")}, scope); !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := s.StartRollout(within(t), config.Change{Key: k, Delete: true}, config.Scope{Percent: 1})
	isAll(t, err, core.ErrInvalid)
	_, err = s.StartRollout(within(t), config.Change{Key: k, Value: []byte("x"), Expect: new(int64(5))}, config.Scope{Percent: 1})
	isAll(t, err, config.ErrConflict)
	health := config.WithHealth(func(context.Context) error { return nil }, time.Second)
	for name, opts := range map[string][]config.Option{
		"id":                {config.WithInstance(sess, "a/b", nil)},
		"no session":        {config.WithInstance(nil, "a", nil)},
		"another namespace": {config.WithInstance(sess, "a", nil), config.WithNamespace("other")},
		"labels":            {config.WithInstance(sess, "a", map[string]string{"": ""})},
		"health of nobody":  {health},
		"health too often":  {config.WithInstance(sess, "a", nil), config.WithHealth(func(context.Context) error { return nil }, time.Millisecond)},
	} {
		_, err := config.Open[limits](within(t), etcd.Client(t), k, append(opts, config.WithDefault(limits{Rate: 1}))...)
		if !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
