package config_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

func history(tb testing.TB, key string) []*config.Version {
	tb.Helper()
	var all []*config.Version
	for v, err := range config.NewStore(etcd.Client(tb)).History(within(tb), key, 0) {
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// writes matches the transactions that publish, and not those that read.
var writes = coretest.Puts("/config/")

// looks matches the reads with which a publisher finds out what became of a
// request, and not the one that it begins with, which is a transaction.
var looks = coretest.All(coretest.Method("Range"), coretest.Reads("/value"))

func faulty(tb testing.TB) (*coretest.Faults, *config.Store) {
	f := coretest.NewFaults()
	return f, config.NewStore(etcd.Client(tb, f.DialOptions()...))
}

// A lost reply is found out about: the publication is there once, and its
// revision is the answer.
func TestLostReplyIsFoundAgain(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Unknown, codes.DeadlineExceeded} {
		k := key(t)
		base := publish(t, k, "0")
		f, s := faulty(t)
		lost := f.LoseReply(writes, coretest.WithCode(code))
		rev := must[int64](t)(s.Publish(within(t), []config.Change{{Key: k, Value: []byte("1"), Expect: &base}}))
		if lost.Fired() != 1 {
			t.Fatal("no reply was lost")
		}
		h := history(t, k)
		if len(h) != 2 || h[0].Revision != rev || string(h[0].Value) != "1" {
			t.Errorf("%v: revision %d, history %+v", code, rev, h)
		}
	}
}

// The reply is lost, and others publish before the publisher can look: its own
// version is found in the history.
func TestLostReplyIsFoundInTheHistory(t *testing.T) {
	k := key(t)
	base := publish(t, k, "0")
	f, s := faulty(t)
	f.LoseReply(writes)
	hold := f.Hold(looks)
	type result struct {
		rev int64
		err error
	}
	done := make(chan result, 1)
	ctx := within(t)
	go func() {
		rev, err := s.Publish(ctx, []config.Change{{Key: k, Value: []byte("mine"), Expect: &base}})
		done <- result{rev, err}
	}()
	if err := hold.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		publish(t, k, fmt.Sprint("other ", i))
	}
	hold.Release()
	got := <-done
	h := history(t, k)
	if got.err != nil || len(h) != 5 || string(h[3].Value) != "mine" || h[3].Revision != got.rev {
		t.Errorf("%+v, history of %d", got, len(h))
	}
}

// The request is lost on its way, and arrives after somebody else has published:
// it finds another version, and does nothing.
func TestLateRequestDoesNothing(t *testing.T) {
	k := key(t)
	base := publish(t, k, "0")
	f, s := faulty(t)
	late := f.Late(writes)
	rev := must[int64](t)(s.Publish(within(t), []config.Change{{Key: k, Value: []byte("1"), Expect: &base}}))
	last := publish(t, k, "2")
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	h := history(t, k)
	if len(h) != 3 || h[0].Revision != last || h[1].Revision != rev {
		t.Errorf("history %+v", h)
	}
}

// Nobody knows what became of it, and whoever asked does not wait.
func TestUnknownOutcome(t *testing.T) {
	k := key(t)
	f, s := faulty(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	lost := f.LoseReply(writes)
	blind := f.LoseRequest(looks, coretest.Always())
	enough := errors.New("enough")
	go func() {
		_ = blind.WaitTimes(within(t), 2)
		cancel(enough)
	}()
	_, err := s.Publish(ctx, []config.Change{{Key: k, Value: []byte("1")}})
	isAll(t, err, core.ErrUnknownOutcome, enough)
	if lost.Fired() != 1 {
		t.Error("no reply was lost")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	const keep, more = 50, 13
	k := key(t)
	s := config.NewStore(etcd.Client(t))
	var revs []int64
	for i := range keep + more {
		revs = append(revs, must[int64](t)(s.Publish(within(t), []config.Change{{Key: k, Value: fmt.Append(nil, i)}})))
	}
	h := history(t, k)
	if len(h) != keep || h[0].Number != keep+more || h[keep-1].Number != more+1 {
		t.Fatalf("%d versions, from %d to %d", len(h), h[0].Number, h[len(h)-1].Number)
	}
	for i, rev := range revs {
		v, err := s.At(within(t), k, rev)
		switch {
		case i < more:
			isAll(t, err, config.ErrNotFound)
		case err != nil || v.Revision != rev || string(v.Value) != fmt.Sprint(i):
			t.Fatalf("at %d: %+v, %v", rev, v, err)
		}
	}
	if left := len(etcd.Dump(t, historyPrefix(k))); left != keep {
		t.Errorf("%d keys of the history", left)
	}
	_, err := s.At(within(t), k, etcd.Revision(t)+100)
	isAll(t, err, config.ErrNotFound)
}

// A rollback is a new version with old content.
func TestRollback(t *testing.T) {
	k := key(t)
	v := opened(t, etcd.Client(t), k, config.WithDefault(limits{Rate: 1}), config.WithValidate(positive))
	first := must[int64](t)(v.Set(within(t), limits{Rate: 5}))
	bad := publish(t, k, `{"rate":-1}`)
	must[int64](t)(v.Set(within(t), limits{Rate: 6}))
	back := must[int64](t)(v.Rollback(within(t), first, config.Message("as before")))
	if s := until(t, v, "the old value", func(s *config.Snapshot[limits]) bool { return s.Revision == back }); s.Value.Rate != 5 || s.Number != 4 {
		t.Errorf("snapshot %+v", *s)
	}
	if h := history(t, k); h[0].Of != first || h[0].Message != "as before" {
		t.Errorf("version %+v", *h[0])
	}
	_, err := v.Rollback(within(t), bad)
	isAll(t, err, config.ErrRejected)
	var all []string
	for s, err := range v.History(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(s.Number, s.Value.Rate, errors.Is(s.Rejected, config.ErrRejected)))
	}
	if got := strings.Join(all, ", "); got != "4 5 false, 3 6 false, 2 0 true, 1 5 false" {
		t.Errorf("history %s", got)
	}
}

// All keys of a release or none, at one revision; whoever watches one of them
// finds the others there too.
func TestReleaseOfSeveralKeys(t *testing.T) {
	k := key(t)
	s := config.NewStore(etcd.Client(t))
	var changes []config.Change
	for i := range config.MaxRelease {
		changes = append(changes, config.Change{Key: fmt.Sprintf("%s/%d", k, i), Value: []byte("1"), Codec: "text"})
	}
	rev := must[int64](t)(s.Publish(within(t), changes, config.Message("together")))
	for v, err := range s.List(within(t), k+"/", "") {
		if err != nil || v.Revision != rev || v.Message != "together" || v.Number != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	// The history is full, too, when all of it happens in one transaction.
	for range 50 {
		must[int64](t)(s.Publish(within(t), changes))
	}
	changes[3].Expect = new(rev)
	changes[4].Value = []byte("2")
	_, err := s.Publish(within(t), changes)
	isAll(t, err, config.ErrConflict)
	if v := must[*config.Version](t)(s.Get(within(t), k+"/4")); string(v.Value) != "1" {
		t.Errorf("a part of a refused release was written: %+v", *v)
	}
	_, err = s.Publish(within(t), append(changes, config.Change{Key: k + "/one-more", Value: []byte("1")}))
	isAll(t, err, core.ErrInvalid)
	_, err = s.Publish(within(t), []config.Change{{Key: k, Value: []byte("1")}, {Key: k, Value: []byte("2")}})
	isAll(t, err, core.ErrInvalid)
}

func TestLimitsOfValues(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	big := bytes.Repeat([]byte("\""), config.MaxValue)
	must[int64](t)(s.Publish(within(t), []config.Change{{Key: k, Value: big}}))
	if v := must[*config.Version](t)(s.Get(within(t), k)); !bytes.Equal(v.Value, big) {
		t.Error("the largest value came back otherwise")
	}
	for name, changes := range map[string][]config.Change{
		"too large":          {{Key: k, Value: append(big, 'x')}},
		"too large together": {{Key: k, Value: big}, {Key: k + "/2", Value: []byte("x")}},
		"empty":              {{Key: k, Value: []byte{}}},
		"none":               {{Key: k}},
		"both":               {{Key: k, Value: []byte("x"), Delete: true}},
		"no key":             {{Value: []byte("x")}},
		"nothing":            {},
	} {
		if _, err := s.Publish(within(t), changes); !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h := history(t, k); len(h) != 1 {
		t.Errorf("%d versions", len(h))
	}
}

// A history that somebody thinned out or lengthened by hand stops nobody.
func TestHistoryChangedByHand(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	for i := range 5 {
		publish(t, k, fmt.Sprint(i))
	}
	del(t, historyPrefix(k)+fmt.Sprintf("%016x", 4))
	put(t, historyPrefix(k)+"zz", "x")
	put(t, historyPrefix(k)+strings.Repeat("7", 16), "x")
	del(t, valueKey(k))
	v := must[*config.Version](t)(s.Get(within(t), k))
	if string(v.Value) != "4" || !errors.Is(v.Problem, config.ErrMissing) {
		t.Errorf("present %+v", *v)
	}
	publish(t, k, "new")
	if v := must[*config.Version](t)(s.Get(within(t), k)); v.Number != 6 || v.Problem != nil {
		t.Errorf("after it was mended: %+v", *v)
	}
	put(t, historyPrefix(k)+fmt.Sprintf("%016x", 7), "made up")
	publish(t, k, "newer")
	if v := must[*config.Version](t)(s.Get(within(t), k)); v.Number != 8 || string(v.Value) != "newer" {
		t.Errorf("beside a made up version: %+v", *v)
	}
}

func TestListGoesOnAfterAName(t *testing.T) {
	s := config.NewStore(etcd.Client(t), config.WithNamespace("list"))
	names := []string{"A", "_hidden", "a", "a/b", "a_", "b", "größe", "z"}
	for i, n := range names {
		must[int64](t)(s.Publish(within(t), []config.Change{{Key: n, Value: fmt.Append(nil, i)}}))
		must[int64](t)(s.SetSchema(within(t), n, []byte(`{}`)))
	}
	list := func(prefix, after string) (got []string) {
		for v, err := range s.List(within(t), prefix, after) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, v.Key)
		}
		return got
	}
	all := list("", "")
	if len(all) != len(names) {
		t.Fatalf("listed %q", all)
	}
	for i, name := range all {
		if rest := list("", name); fmt.Sprint(rest) != fmt.Sprint(all[i+1:]) {
			t.Errorf("after %q: %q", name, rest)
		}
	}
	if got := list("a", ""); fmt.Sprint(got) != "[a/b a a_]" {
		t.Errorf("with the prefix a: %q", got)
	}
	if got := list("_", ""); fmt.Sprint(got) != "[_hidden]" {
		t.Errorf("with the prefix _: %q", got)
	}
}

func TestSchemaGuardsARelease(t *testing.T) {
	k, s := key(t), config.NewStore(etcd.Client(t))
	_, err := s.Schema(within(t), k)
	isAll(t, err, config.ErrNotFound)
	rev := must[int64](t)(s.SetSchema(within(t), k, []byte(`{"type":"object"}`), config.Message("objects only")))
	v := must[*config.Version](t)(s.Schema(within(t), k))
	if v.Revision != rev || string(v.Value) != `{"type":"object"}` || v.Message != "objects only" {
		t.Errorf("schema %+v", *v)
	}
	_, err = s.Publish(within(t), []config.Change{{Key: k, Value: []byte("{}"), Schema: new(int64(0))}})
	isAll(t, err, config.ErrSchemaChanged)
	must[int64](t)(s.Publish(within(t), []config.Change{{Key: k, Value: []byte("{}"), Schema: &rev}}))
	must[int64](t)(s.SetSchema(within(t), k, nil))
	_, err = s.Publish(within(t), []config.Change{{Key: k, Value: []byte("{}"), Schema: &rev}})
	isAll(t, err, config.ErrSchemaChanged)
	_, err = s.SetSchema(within(t), k, []byte("{"))
	isAll(t, err, core.ErrInvalid)
}
