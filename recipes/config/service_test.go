package config_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	configrecipe "github.com/conclavehq/conclave/recipes/config"
)

func TestSetGetHistoryRollback(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	first := must[*configv1.SetResponse](t)(h.Set(within(t), &configv1.SetRequest{Key: k, Value: `{"rate":5}`, Message: "begin", Author: "ada"})).GetRevision()
	second := h.set(t, k, "plain text")
	v := h.get(t, k, 0)
	if v.GetValue() != "plain text" || v.GetRevision() != second || v.GetNumber() != 2 || v.GetCodec() != "text" || v.GetAuthor() != "unknown" {
		t.Errorf("present %v", v)
	}
	v = h.get(t, k, first)
	if v.GetValue() != `{"rate":5}` || v.GetCodec() != "json" || v.GetAuthor() != "ada" || v.GetMessage() != "begin" || v.GetTime() == nil {
		t.Errorf("first %v", v)
	}
	back := must[*configv1.RollbackResponse](t)(h.Rollback(within(t), &configv1.RollbackRequest{Key: k, ToRevision: second - 1, Message: "as it was"}))
	if back.GetOfRevision() != first || back.GetRevision() <= second {
		t.Errorf("rollback %v", back)
	}
	all := h.history(t, k)
	if len(all) != 3 || all[0].GetValue() != `{"rate":5}` || all[0].GetOfRevision() != first || all[2].GetRevision() != first {
		t.Errorf("history %v", all)
	}
}

func TestBytesComeBack(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	data := []byte{0, 255, 10, 0}
	must[*configv1.SetResponse](t)(h.Set(within(t), &configv1.SetRequest{Key: k, Data: data}))
	if v := h.get(t, k, 0); !bytes.Equal(v.GetData(), data) || v.GetValue() != "" || v.GetCodec() != "bytes" || v.GetSize() != 4 {
		t.Errorf("%v", v)
	}
}

func TestConditions(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	set := func(rev int64) (int64, error) {
		resp, err := h.Set(within(t), &configv1.SetRequest{Key: k, Value: "x", IfRevision: &rev})
		return resp.GetRevision(), err
	}
	first := must[int64](t)(set(0))
	_, err := set(0)
	want(t, err, codes.Aborted, "conflict", fmt.Sprintf("its revision is %d, not 0", first))
	must[int64](t)(set(first))
	_, err = h.Rollback(within(t), &configv1.RollbackRequest{Key: k, ToRevision: first, IfRevision: &first})
	want(t, err, codes.Aborted, "conflict", "")
	_, err = h.Delete(within(t), &configv1.DeleteRequest{Key: k, IfRevision: &first})
	want(t, err, codes.Aborted, "conflict", "")
}

func TestDelete(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	_, err := h.Delete(within(t), &configv1.DeleteRequest{Key: k})
	want(t, err, codes.NotFound, "not_found", "")
	rev := h.set(t, k, "x")
	gone := must[*configv1.DeleteResponse](t)(h.Delete(within(t), &configv1.DeleteRequest{Key: k, Author: "ada", Message: "not needed"})).GetRevision()
	_, err = h.Get(within(t), &configv1.GetRequest{Key: k})
	want(t, err, codes.NotFound, "not_found", fmt.Sprintf("was deleted by ada at revision %d (not needed)", gone))
	_, err = h.Rollback(within(t), &configv1.RollbackRequest{Key: k, ToRevision: gone})
	want(t, err, codes.NotFound, "not_found", "was deleted")
	if v := h.get(t, k, rev); v.GetValue() != "x" {
		t.Errorf("before the deletion: %v", v)
	}
	names := func(deleted bool) (all []string) {
		for _, v := range must[*configv1.ListResponse](t)(h.List(within(t), &configv1.ListRequest{Prefix: k, Deleted: deleted})).GetVersions() {
			all = append(all, v.GetKey())
		}
		return all
	}
	if with, without := names(true), names(false); len(with) != 1 || len(without) != 0 {
		t.Errorf("listed %q with deleted ones, %q without", with, without)
	}
}

func TestDeletedByHandIsSaid(t *testing.T) {
	h, k, c := startHost(t, etcd.Client(t)), key(t), etcd.Client(t)
	h.set(t, k, "good")
	must[*clientv3.DeleteResponse](t)(c.Delete(within(t), keyspace.Prefix("default", "config", k)+"value"))
	if v := h.get(t, k, 0); v.GetValue() != "good" || v.GetProblem() != "missing: deleted by hand" {
		t.Errorf("%v", v)
	}
	other := key(t)
	must[*clientv3.PutResponse](t)(c.Put(within(t), keyspace.Prefix("default", "config", other)+"value", "by hand"))
	_, err := h.Get(within(t), &configv1.GetRequest{Key: other})
	want(t, err, codes.FailedPrecondition, "damaged", "publish a value over it")
	h.set(t, other, "mended")
}

func TestReleaseIsOneRevision(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	h.set(t, k+"/old", "x")
	rev := must[*configv1.PublishResponse](t)(h.Publish(within(t), &configv1.PublishRequest{Message: "all", Changes: []*configv1.Change{
		{Key: k + "/a", Value: "1"}, {Key: k + "/b", Data: []byte{0xff}}, {Key: k + "/old", Delete: true},
	}})).GetRevision()
	list := must[*configv1.ListResponse](t)(h.List(within(t), &configv1.ListRequest{Prefix: k, Deleted: true})).GetVersions()
	if len(list) != 3 {
		t.Fatalf("%v", list)
	}
	for _, v := range list {
		if v.GetRevision() != rev || v.GetMessage() != "all" || v.GetValue() != "" {
			t.Errorf("%v", v)
		}
	}
	_, err := h.Publish(within(t), &configv1.PublishRequest{Changes: []*configv1.Change{{Key: k + "/a", Value: "2"}, {Key: k + "/none", Delete: true}}})
	want(t, err, codes.NotFound, "not_found", k+"/none")
	if v := h.get(t, k+"/a", 0); v.GetValue() != "1" {
		t.Errorf("a part of a refused release was published: %v", v)
	}
}

func TestPages(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	for i := range 7 {
		h.set(t, fmt.Sprintf("%s/%d", k, i), "x")
		h.set(t, k+"/0", fmt.Sprint(i))
	}
	var keys []string
	req := &configv1.ListRequest{Prefix: k + "/", PageSize: 3}
	for {
		resp := must[*configv1.ListResponse](t)(h.List(within(t), req))
		for _, v := range resp.GetVersions() {
			keys = append(keys, strings.TrimPrefix(v.GetKey(), k+"/"))
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if got := strings.Join(keys, ""); got != "0123456" {
		t.Errorf("pages of %q", got)
	}
	var numbers []int64
	past := &configv1.HistoryRequest{Key: k + "/0", Limit: 3}
	for {
		resp := must[*configv1.HistoryResponse](t)(h.History(within(t), past))
		for _, v := range resp.GetVersions() {
			numbers = append(numbers, v.GetNumber())
		}
		if past.PageToken = resp.GetNextPageToken(); past.GetPageToken() == "" {
			break
		}
	}
	if fmt.Sprint(numbers) != "[8 7 6 5 4 3 2 1]" {
		t.Errorf("pages of %v", numbers)
	}
}

// The largest values come in pages that every client takes.
func TestHistoryOfLargeValues(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	big := strings.Repeat("x", config.MaxValue)
	for range 10 {
		h.set(t, k, big)
	}
	req, n := &configv1.HistoryRequest{Key: k}, 0
	for {
		resp := must[*configv1.HistoryResponse](t)(h.History(within(t), req))
		if size := proto.Size(resp); size > 3<<20 {
			t.Errorf("a page of %d bytes", size)
		}
		n += len(resp.GetVersions())
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if n != 10 {
		t.Errorf("%d versions", n)
	}
}

func TestWatch(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	w := must[configv1.ConfigService_WatchClient](t)(h.Watch(within(t), &configv1.WatchRequest{Key: k}))
	next := func() *configv1.Version { return must[*configv1.WatchResponse](t)(w.Recv()).GetVersion() }
	if v := next(); v.GetProblem() != "not found" || v.GetKey() != k {
		t.Errorf("never set: %v", v)
	}
	rev := h.set(t, k, "one")
	if v := next(); v.GetRevision() != rev || v.GetValue() != "one" || v.GetProblem() != "" {
		t.Errorf("set: %v", v)
	}
	must[*configv1.DeleteResponse](t)(h.Delete(within(t), &configv1.DeleteRequest{Key: k}))
	if v := next(); !v.GetDeleted() || v.GetValue() != "" {
		t.Errorf("deleted: %v", v)
	}
	h.Stop(t)
	_, err := w.Recv()
	want(t, err, codes.Unavailable, "recipe_restarting", "")
}

func TestNamespaces(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	must[*configv1.SetResponse](t)(h.Set(within(t), &configv1.SetRequest{Namespace: "team", Key: k, Value: "theirs"}))
	_, err := h.Get(within(t), &configv1.GetRequest{Key: k})
	want(t, err, codes.NotFound, "not_found", "")
	v := must[*config.Version](t)(config.NewStore(etcd.Client(t), config.WithNamespace("team")).Get(within(t), k))
	if string(v.Value) != "theirs" {
		t.Errorf("by the library: %+v", *v)
	}
}

// Every field, just outside its limits.
func TestInvalid(t *testing.T) {
	h, ctx := startHost(t, etcd.Client(t)), within(t)
	set := func(req *configv1.SetRequest) error { _, err := h.Set(ctx, req); return err }
	for _, tt := range []struct {
		reason, text string
		err          error
	}{
		{"invalid_key", "empty", set(&configv1.SetRequest{Value: "x"})},
		{"invalid_key", "255", set(&configv1.SetRequest{Key: strings.Repeat("k", 256), Value: "x"})},
		{"invalid_namespace", "one segment", set(&configv1.SetRequest{Namespace: "a/b", Key: "k", Value: "x"})},
		{"invalid_value", "empty", set(&configv1.SetRequest{Key: "k"})},
		{"invalid_value", "524288", set(&configv1.SetRequest{Key: "k", Value: strings.Repeat("x", config.MaxValue+1)})},
		{"invalid_value", "both", set(&configv1.SetRequest{Key: "k", Value: "x", Data: []byte("x")})},
		{"invalid_codec", "64", set(&configv1.SetRequest{Key: "k", Value: "x", Codec: strings.Repeat("c", 65)})},
		{"invalid_message", "1024", set(&configv1.SetRequest{Key: "k", Value: "x", Message: strings.Repeat("m", 1025)})},
		{"invalid_author", "255", set(&configv1.SetRequest{Key: "k", Value: "x", Author: strings.Repeat("a", 256)})},
		{"invalid_if_revision", "negative", set(&configv1.SetRequest{Key: "k", Value: "x", IfRevision: new(int64(-1))})},
		{"invalid_changes", "1 to 32", second(h.Publish(ctx, &configv1.PublishRequest{}))},
		{"invalid_key", "twice", second(h.Publish(ctx, &configv1.PublishRequest{Changes: []*configv1.Change{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}}}))},
		{"invalid_value", "deletion", second(h.Publish(ctx, &configv1.PublishRequest{Changes: []*configv1.Change{{Key: "k", Value: "1", Delete: true}}}))},
		{"invalid_revision", "less than 1", second(h.Get(ctx, &configv1.GetRequest{Key: "k", Revision: -1}))},
		{"invalid_to_revision", "less than 1", second(h.Rollback(ctx, &configv1.RollbackRequest{Key: "k"}))},
		{"invalid_prefix", "1024", second(h.List(ctx, &configv1.ListRequest{Prefix: strings.Repeat("p", 1025)}))},
		{"invalid_page_size", "negative", second(h.List(ctx, &configv1.ListRequest{PageSize: -1}))},
		{"invalid_page_token", "List", second(h.List(ctx, &configv1.ListRequest{PageToken: "?"}))},
		{"invalid_limit", "1000", second(h.History(ctx, &configv1.HistoryRequest{Key: "k", Limit: 1001}))},
		{"invalid_page_token", "History", second(h.History(ctx, &configv1.HistoryRequest{Key: "k", PageToken: "x"}))},
		{"invalid_schema", "empty", second(h.SetSchema(ctx, &configv1.SetSchemaRequest{Key: "k"}))},
		{"invalid_schema", "524288", second(h.SetSchema(ctx, &configv1.SetSchemaRequest{Key: "k", Schema: strings.Repeat(" ", config.MaxValue+1)}))},
		{"invalid_schema", "not JSON", second(h.SetSchema(ctx, &configv1.SetSchemaRequest{Key: "k", Schema: "{"}))},
		{"invalid_schema", "not a JSON Schema: at /type: ", second(h.SetSchema(ctx, &configv1.SetSchemaRequest{Key: "k", Schema: `{"type":"objekt"}`}))},
		{"invalid_schema", "not read", second(h.SetSchema(ctx, &configv1.SetSchemaRequest{Key: "k", Schema: `{"$ref":"file:///etc/hostname"}`}))},
		{"invalid_schema", "not read", second(h.SetSchema(ctx, &configv1.SetSchemaRequest{Key: "k", Schema: `{"$ref":"http://127.0.0.1:1/x"}`}))},
	} {
		want(t, tt.err, codes.InvalidArgument, tt.reason, tt.text)
	}
}

func second[T any](_ T, err error) error { return err }

// While etcd is silent a read says so, and a write that was never sent too.
func TestSilentEtcd(t *testing.T) {
	link := etcd.Link(t)
	h, k := startHost(t, coretest.Dial(t, link.Endpoint())), key(t)
	h.set(t, k, "x")
	link.Cut()
	_, err := h.Get(within(t), &configv1.GetRequest{Key: k})
	want(t, err, codes.Unavailable, "no_quorum", "")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := h.Set(ctx, &configv1.SetRequest{Key: k, Value: "y"}); err == nil {
		t.Error("set without etcd")
	}
	link.Heal()
	if v := h.get(t, k, 0); v.GetValue() != "x" {
		t.Errorf("%v", v)
	}
}

func TestRunsUnderTheLibrarysName(t *testing.T) {
	env := recipe.NewEnv("other", etcd.Client(t), nil, nil)
	defer env.Close()
	if _, err := (configrecipe.Recipe{}).Open(within(t), env, nil); err == nil {
		t.Error("it opened under another name")
	}
	if err := errors.Join(startHost(t, etcd.Client(t)).Instance.Close(within(t))); err != nil {
		t.Error(err)
	}
}
