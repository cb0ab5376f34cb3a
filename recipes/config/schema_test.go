package config_test

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
)

const limitsSchema = `{"type":"object","required":["rate"],"additionalProperties":false,
	"properties":{"rate":{"type":"integer","minimum":1},"name":{"type":"string","pattern":"^[a-z]+$"}}}`

func (h *host) setSchema(tb testing.TB, key, schema string) *configv1.SetSchemaResponse {
	tb.Helper()
	return must[*configv1.SetSchemaResponse](tb)(h.SetSchema(within(tb), &configv1.SetSchemaRequest{Key: key, Schema: schema, Message: "from now on", Author: "ada"}))
}

func TestSchemaIsCheckedOnEveryWay(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	_, err := h.GetSchema(within(t), &configv1.GetSchemaRequest{Key: k})
	want(t, err, codes.NotFound, "not_found", "")
	old := h.set(t, k, `{"rate":0}`)
	resp := h.setSchema(t, k, limitsSchema)
	if resp.GetPresentFails() == "" || resp.GetRevision() <= old {
		t.Errorf("the present value does not pass, and nothing is said: %v", resp)
	}
	s := must[*configv1.GetSchemaResponse](t)(h.GetSchema(within(t), &configv1.GetSchemaRequest{Key: k}))
	if s.GetSchema() != limitsSchema || s.GetAuthor() != "ada" || s.GetMessage() != "from now on" || s.GetRevision() != resp.GetRevision() {
		t.Errorf("schema %v", s)
	}
	for value, text := range map[string]string{
		`{"rate":0}`:               "at /rate: ",
		`{"rate":"1"}`:             "at /rate: ",
		`{"rate":1,"name":"A"}`:    "at /name: ",
		`{"rate":1,"other":1}`:     "other",
		`{}`:                       "rate",
		`[]`:                       "at /: ",
		`rate: 1`:                  "is not JSON",
		`{"rate":1} {"rate":1}`:    "is not JSON",
		`{"rate":1.5,"name":"ok"}`: "at /rate: ",
	} {
		_, err := h.Set(within(t), &configv1.SetRequest{Key: k, Value: value})
		want(t, err, codes.InvalidArgument, "invalid_value", text)
	}
	_, err = h.Publish(within(t), &configv1.PublishRequest{Changes: []*configv1.Change{{Key: k + "/free", Value: "x"}, {Key: k, Value: "[]"}}})
	want(t, err, codes.InvalidArgument, "invalid_value", "")
	_, err = h.Rollback(within(t), &configv1.RollbackRequest{Key: k, ToRevision: old})
	want(t, err, codes.InvalidArgument, "invalid_value", "at /rate: ")
	if v := h.get(t, k, 0); v.GetRevision() != old {
		t.Errorf("something was published: %v", v)
	}
	h.set(t, k, `{"rate":7,"name":"ok"}`)
	must[*configv1.DeleteSchemaResponse](t)(h.DeleteSchema(within(t), &configv1.DeleteSchemaRequest{Key: k}))
	h.set(t, k, "anything")
}

func TestSchemaWithItsOwnReferences(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	h.setSchema(t, k, `{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"next":{"$ref":"#/$defs/tree"}},"additionalProperties":false}}}`)
	h.set(t, k, `{"next":{"next":{}}}`)
	_, err := h.Set(within(t), &configv1.SetRequest{Key: k, Value: `{"next":{"nxt":{}}}`})
	want(t, err, codes.InvalidArgument, "invalid_value", "at /next: ")
}

// A schema that changes while values are published: no value stands that the
// schema of its moment refuses.
func TestSchemaChangesMeanwhile(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	h.setSchema(t, k, `{"const":0}`)
	var all sync.WaitGroup
	published := make(chan int64, 100)
	for i := range 2 {
		all.Go(func() {
			for range 20 {
				resp, err := h.Set(within(t), &configv1.SetRequest{Key: k, Value: fmt.Sprint(i)})
				if err == nil {
					published <- resp.GetRevision()
				}
			}
		})
	}
	schemas := map[int64]int{}
	var order []int64
	for n := range 20 {
		rev := h.setSchema(t, k, fmt.Sprintf(`{"const":%d}`, n%2)).GetRevision()
		schemas[rev], order = n%2, append(order, rev)
	}
	all.Wait()
	close(published)
	for rev := range published {
		value, at := h.get(t, k, rev).GetValue(), 0
		for _, r := range order {
			if r < rev {
				at = schemas[r]
			}
		}
		if value != fmt.Sprint(at) {
			t.Errorf("at revision %d the value %s stands, and the schema allows %d", rev, value, at)
		}
	}
}
