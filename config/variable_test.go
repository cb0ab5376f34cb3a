package config_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core"
)

func TestOpenSetWatch(t *testing.T) {
	k, c := key(t), etcd.Client(t)
	v := opened(t, c, k, config.WithDefault(limits{Rate: 1}), config.WithValidate(positive))
	if s := v.Latest(); s.Value.Rate != 1 || s.Revision != 0 || s.Rejected != nil || s.Stale {
		t.Fatalf("a key that was never set: %+v", *s)
	}
	rev := must[int64](t)(v.Set(within(t), limits{Rate: 5}, config.Message("more"), config.Author("ada")))
	s := v.Latest()
	if s.Revision != rev || s.Value.Rate != 5 || s.Number != 1 || s.Author != "ada" || s.Message != "more" || s.Time.IsZero() || s.Rejected != nil {
		t.Errorf("snapshot %+v", *s)
	}
	if s := opened(t, c, k).Latest(); s.Value.Rate != 5 || s.Revision != rev {
		t.Errorf("another reader begins with %+v", *s)
	}
}

// What stands in the key, or no longer does, and what a program makes of it.
func TestOnlyGoodReplacesGood(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, key string)
		want  error
	}{
		{"does not decode", func(t *testing.T, key string) { publish(t, key, `{"rate":"many"}`) }, config.ErrRejected},
		{"is not JSON", func(t *testing.T, key string) { publish(t, key, `rate: 5`) }, config.ErrRejected},
		{"does not pass the check", func(t *testing.T, key string) { publish(t, key, `{"rate":-1}`) }, config.ErrRejected},
		{"white space", func(t *testing.T, key string) { publish(t, key, " \n") }, config.ErrRejected},
		{"emptied by hand", func(t *testing.T, key string) { put(t, valueKey(key), "") }, config.ErrDamaged},
		{"written by hand", func(t *testing.T, key string) { put(t, valueKey(key), `{"rate":7}`) }, config.ErrDamaged},
		{"deleted by hand", func(t *testing.T, key string) { del(t, valueKey(key)) }, config.ErrMissing},
		{"deleted by a tombstone", func(t *testing.T, key string) {
			must[int64](t)(config.NewStore(etcd.Client(t)).Publish(within(t), []config.Change{{Key: key, Delete: true}}))
		}, config.ErrDeleted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, c := key(t), etcd.Client(t)
			good := publish(t, k, `{"rate":5}`)
			v := opened(t, c, k, config.WithValidate(positive))
			tt.spoil(t, k)
			s := until(t, v, "a rejection", func(s *config.Snapshot[limits]) bool { return s.Rejected != nil })
			if s.Value.Rate != 5 || s.Revision != good {
				t.Errorf("the last good value was replaced: %+v", *s)
			}
			isAll(t, s.Rejected, tt.want)

			last := must[int64](t)(v.Set(within(t), limits{Rate: 8}))
			s = until(t, v, "a good value again", func(s *config.Snapshot[limits]) bool { return s.Revision == last })
			if s.Value.Rate != 8 || s.Rejected != nil || s.RejectedRevision != 0 || s.Deleted {
				t.Errorf("after it was mended: %+v", *s)
			}
		})
	}
}

// A program that starts while the key is not well.
func TestStartWithoutAGoodValue(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, key string)
		want  error // of Open; nil: it starts with the newest version
		says  error
	}{
		{"never set", func(*testing.T, string) {}, config.ErrNotFound, nil},
		{"rejected", func(t *testing.T, key string) { publish(t, key, `{"rate":-1}`) }, config.ErrRejected, nil},
		{"damaged without a history", func(t *testing.T, key string) { put(t, valueKey(key), "x") }, config.ErrDamaged, nil},
		{"damaged", func(t *testing.T, key string) { publish(t, key, `{"rate":5}`); put(t, valueKey(key), "") }, nil, config.ErrDamaged},
		{"missing", func(t *testing.T, key string) { publish(t, key, `{"rate":5}`); del(t, valueKey(key)) }, nil, config.ErrMissing},
		{"deleted", func(t *testing.T, key string) {
			publish(t, key, `{"rate":5}`)
			must[int64](t)(config.NewStore(etcd.Client(t)).Publish(within(t), []config.Change{{Key: key, Delete: true}}))
		}, config.ErrDeleted, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, c := key(t), etcd.Client(t)
			tt.spoil(t, k)
			v, err := config.Open[limits](within(t), c, k, config.WithValidate(positive))
			if tt.want != nil {
				isAll(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			if s := v.Latest(); s.Value.Rate != 5 {
				t.Errorf("began with %+v", *s)
			}
			isAll(t, v.Latest().Rejected, tt.says)
		})
	}
}

func TestTombstoneGivesTheDefaultBack(t *testing.T) {
	k := key(t)
	v := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: 1}))
	must[int64](t)(v.Set(within(t), limits{Rate: 5}))
	must[int64](t)(v.Delete(within(t), config.Message("not needed")))
	s := until(t, v, "the default", func(s *config.Snapshot[limits]) bool { return s.Deleted })
	if s.Value.Rate != 1 || s.Revision != 0 || s.Rejected != nil || s.Message != "not needed" {
		t.Errorf("after the tombstone: %+v", *s)
	}
	if s := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: 2})).Latest(); s.Value.Rate != 2 || !s.Deleted {
		t.Errorf("begun after the tombstone: %+v", *s)
	}
	_, err := v.Delete(within(t))
	isAll(t, err, config.ErrNotFound)
	rev := must[int64](t)(v.CompareAndSet(within(t), 0, limits{Rate: 3}))
	if s := until(t, v, "a value again", func(s *config.Snapshot[limits]) bool { return s.Revision == rev }); s.Number != 3 || s.Deleted {
		t.Errorf("set after the tombstone: %+v", *s)
	}
}

func TestCompareAndSet(t *testing.T) {
	k := key(t)
	v := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: 1}))
	first := must[int64](t)(v.CompareAndSet(within(t), 0, limits{Rate: 2}))
	_, err := v.CompareAndSet(within(t), 0, limits{Rate: 3})
	isAll(t, err, config.ErrConflict)
	if e, ok := errors.AsType[*config.ConflictError](err); !ok || e.Revision != first || e.Want != 0 || e.Key != k {
		t.Errorf("conflict %+v", e)
	}
	second := must[int64](t)(v.CompareAndSet(within(t), first, limits{Rate: 3}))
	_, err = v.CompareAndSet(within(t), first, limits{Rate: 4})
	isAll(t, err, config.ErrConflict)
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
}

func TestSetChecksFirst(t *testing.T) {
	k := key(t)
	v := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: 1}), config.WithValidate(positive))
	before := etcd.Revision(t)
	for _, opts := range [][]config.PublishOption{nil, {config.Message("a\nb")}, {config.Author("\x00")}} {
		value := limits{Rate: 5}
		if opts == nil {
			value.Rate = -5
		}
		_, err := v.Set(within(t), value, opts...)
		isAll(t, err, core.ErrInvalid)
	}
	if after := etcd.Revision(t); after != before {
		t.Errorf("something was written: revision %d after %d", after, before)
	}
}

func TestOptionsOfAnotherType(t *testing.T) {
	for name, opts := range map[string][]config.Option{
		"default":                    {config.WithDefault(5)},
		"check":                      {config.WithValidate(func(int) error { return nil })},
		"default that does not pass": {config.WithDefault(limits{}), config.WithValidate(positive)},
		"namespace":                  {config.WithNamespace("a/b")},
		"author":                     {config.WithAuthor("a\nb")},
		"check that panics":          {config.WithDefault(limits{Rate: 1}), config.WithValidate(func(limits) error { panic("no") })},
	} {
		_, err := config.Open[limits](within(t), etcd.Client(t), "k", opts...)
		if !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"", "a//b", "a/..", "a\x01"} {
		_, err := config.Open[limits](within(t), etcd.Client(t), bad)
		isAll(t, err, core.ErrInvalid)
	}
}

func TestACheckThatPanicsRejects(t *testing.T) {
	k := key(t)
	publish(t, k, `{"rate":5}`)
	v := opened(t, etcd.Client(t), k, config.WithValidate(func(l limits) error {
		if l.Rate == 6 {
			panic("unexpected")
		}
		return nil
	}))
	publish(t, k, `{"rate":6}`)
	s := until(t, v, "a rejection", func(s *config.Snapshot[limits]) bool { return s.Rejected != nil })
	isAll(t, s.Rejected, config.ErrRejected)
	if s.Value.Rate != 5 {
		t.Errorf("snapshot %+v", *s)
	}
}

// Every watcher ends with the final state, however slow it is.
func TestEveryWatcherSeesTheFinalState(t *testing.T) {
	const watchers, changes = 50, 40
	k := key(t)
	v := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: -1}))
	final := make(chan int64, 1)
	var all sync.WaitGroup
	fail := make(chan string, watchers)
	for i := range watchers {
		all.Go(func() {
			last, want := int64(0), int64(1)<<62
			for s, err := range v.Watch(within(t)) {
				if err != nil || s.Revision < last {
					fail <- fmt.Sprintf("watcher %d: %v, revision %d after %d", i, err, s.Revision, last)
					return
				}
				last = s.Revision
				if i%10 == 0 && want > last { // a slow one: it waits for the end of all changes
					want = <-final
					final <- want
				}
				if s.Value.Rate == changes {
					return
				}
			}
		})
	}
	for i := range changes {
		must[int64](t)(v.Set(within(t), limits{Rate: i + 1}))
	}
	final <- v.Latest().Revision
	all.Wait()
	close(fail)
	for f := range fail {
		t.Error(f)
	}
}

func TestWatchEnds(t *testing.T) {
	k := key(t)
	v := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: 1}))
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	pairs := 0
	for s, err := range v.Watch(ctx) {
		if pairs++; (pairs == 1) != (s != nil) || (pairs == 2 && !errors.Is(err, why)) {
			t.Errorf("pair %d: %v, %v", pairs, s, err)
		}
	}
	if pairs != 2 {
		t.Errorf("%d pairs", pairs)
	}
	if err := errors.Join(v.Close(), v.Close()); err != nil {
		t.Error(err)
	}
	for _, err := range v.Watch(within(t)) {
		if err != nil {
			isAll(t, err, config.ErrClosed)
		}
	}
	if v.Latest().Value.Rate != 1 {
		t.Errorf("after Close: %+v", *v.Latest())
	}
}

func TestTextAndBytes(t *testing.T) {
	k := key(t)
	s := must[*config.Variable[string]](t)(config.Open[string](within(t), etcd.Client(t), k, config.WithCodec(core.Text{}), config.WithDefault("")))
	defer s.Close()
	must[int64](t)(s.Set(within(t), "line one\nline two\n"))
	b := must[*config.Variable[[]byte]](t)(config.Open[[]byte](within(t), etcd.Client(t), k, config.WithCodec(core.Bytes{})))
	defer b.Close()
	if got := string(b.Latest().Value); got != "line one\nline two\n" {
		t.Errorf("%q", got)
	}
	_, err := s.Set(within(t), "")
	isAll(t, err, core.ErrInvalid)
}

func TestNamespacesAreApart(t *testing.T) {
	k, file := key(t), filepath.Join(t.TempDir(), "copy")
	publish(t, k, `{"rate":5}`)
	_, err := config.Open[limits](within(t), etcd.Client(t), k, config.WithNamespace("other"), config.WithFallbackFile(file))
	isAll(t, err, config.ErrNotFound)
}
