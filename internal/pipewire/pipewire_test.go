package pipewire_test

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pipelinev1 "github.com/conclavehq/conclave/api/conclave/pipeline/v1"
	"github.com/conclavehq/conclave/internal/pipewire"
)

// request reads bytes into the generated type, by way of this package.
func request(b []byte) (*pipelinev1.CallsRequest, error) {
	m := &pipelinev1.CallsRequest{}
	err := pipewire.Requests(b, func(c *pipewire.Call) error {
		m.Calls = append(m.Calls, &pipelinev1.Call{Id: c.ID, Method: string(c.Method), Request: bytes.Clone(c.Request),
			Timeout: uint64(c.Timeout), Metadata: pairs(c.Metadata)})
		return nil
	}, func(id uint64) { m.Cancels = append(m.Cancels, id) })
	return m, err
}

func pairs(md metadata.MD) (all []*pipelinev1.Metadata) {
	for k, values := range md {
		for _, v := range values {
			all = append(all, &pipelinev1.Metadata{Key: k, Value: []byte(v)})
		}
	}
	return all
}

func TestRequests(t *testing.T) {
	want := &pipelinev1.CallsRequest{Cancels: []uint64{1, 300, math.MaxUint64}, Calls: []*pipelinev1.Call{
		{},
		{Id: 1, Method: "/a.B/C", Request: []byte("request"), Timeout: uint64(time.Second)},
		{Id: math.MaxUint64, Method: "/a.B/D", Metadata: []*pipelinev1.Metadata{{Key: "k-bin", Value: []byte("\x00\xff")}, {Key: "k-bin", Value: []byte("2")}}},
	}}
	var out pipewire.Outbox
	for _, c := range want.GetCalls() {
		md := metadata.MD{}
		for _, p := range c.GetMetadata() {
			md.Append(p.GetKey(), string(p.GetValue()))
		}
		out.Call(c.GetMethod(), &pipewire.Call{ID: c.GetId(), Request: c.GetRequest(), Timeout: time.Duration(c.GetTimeout()), Metadata: md})
	}
	for _, id := range want.GetCancels() {
		out.Cancel(id)
	}
	b := out.Take().Materialize()
	got := new(pipelinev1.CallsRequest)
	if err := proto.Unmarshal(b, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("protobuf reads %v, %v; want %v", got, err, want)
	}
	encoded, err := proto.Marshal(want) // cancels are packed in it
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{b, encoded} {
		if got, err := request(b); err != nil || !proto.Equal(got, want) {
			t.Errorf("read %v, %v; want %v", got, err, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	st, err := proto.Marshal(&pipelinev1.Status{Code: 5, Message: "not_found: gone"})
	if err != nil {
		t.Fatal(err)
	}
	var out pipewire.Outbox
	out.Answer(&pipewire.Answer{})
	out.Answer(&pipewire.Answer{ID: 1, Response: []byte("response"), Header: metadata.Pairs("h", "1")})
	out.Answer(&pipewire.Answer{ID: 300, Status: st, Trailer: metadata.Pairs("t", "2", "t", "3")})
	b := out.Take().Materialize()
	want := &pipelinev1.CallsResponse{Answers: []*pipelinev1.Answer{
		{},
		{Id: 1, Response: []byte("response"), Header: pairs(metadata.Pairs("h", "1"))},
		{Id: 300, Status: &pipelinev1.Status{Code: 5, Message: "not_found: gone"}, Trailer: pairs(metadata.Pairs("t", "2", "t", "3"))},
	}}
	got := new(pipelinev1.CallsResponse)
	if err := proto.Unmarshal(b, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("protobuf reads %v, %v; want %v", got, err, want)
	}
	got.Reset()
	err = pipewire.Answers(b, func(a *pipewire.Answer) {
		s := new(pipelinev1.Status)
		if err := proto.Unmarshal(a.Status, s); err != nil {
			t.Error(err)
		}
		if len(a.Status) == 0 {
			s = nil
		}
		got.Answers = append(got.Answers, &pipelinev1.Answer{Id: a.ID, Response: bytes.Clone(a.Response), Status: s, Header: pairs(a.Header), Trailer: pairs(a.Trailer)})
	})
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("read %v, %v; want %v", got, err, want)
	}
}

// A message has what fits, in the order in which it came, and one of any size.
func TestOutbox(t *testing.T) {
	var out pipewire.Outbox
	const all = 100
	for i := range uint64(all) {
		size := 1_000
		if i == 50 {
			size = 1_000_000
		}
		out.Answer(&pipewire.Answer{ID: i + 1, Response: make([]byte, size)})
	}
	if out.Len() < 1_099_000 || !out.Full() {
		t.Errorf("%d bytes wait, full: %v", out.Len(), out.Full())
	}
	next, messages := uint64(1), 0
	for m := out.Take(); m != nil; m = out.Take() {
		messages++
		if n := m.Len(); n > 17_500 && n < 1_000_000 {
			t.Errorf("a message has %d bytes", n)
		}
		err := pipewire.Answers(m.Materialize(), func(a *pipewire.Answer) {
			if a.ID != next {
				t.Errorf("got %d, want %d", a.ID, next)
			}
			next++
		})
		if err != nil {
			t.Error(err)
		}
		m.Free()
	}
	if next != all+1 || messages < 6 || messages > 10 || out.Len() != 0 || out.Full() {
		t.Errorf("got %d answers in %d messages, and %d bytes are left", next-1, messages, out.Len())
	}
}

func TestStopsAtTheFirstError(t *testing.T) {
	var out pipewire.Outbox
	out.Call("/a/b", &pipewire.Call{ID: 1})
	out.Call("/a/b", &pipewire.Call{ID: 2})
	enough, begun := errors.New("enough"), 0
	err := pipewire.Requests(out.Take().Materialize(), func(*pipewire.Call) error { begun++; return enough }, func(uint64) {})
	if !errors.Is(err, enough) || begun != 1 {
		t.Errorf("got %v after %d calls", err, begun)
	}
}

// Metadata beyond the limit are counted and not kept.
func TestManyPairs(t *testing.T) {
	md := metadata.MD{"k": make([]string, 10_000)}
	err := pipewire.Requests(pipewire.AppendCall(nil, "/a/b", &pipewire.Call{Metadata: md}), func(c *pipewire.Call) error {
		if kept := len(c.Metadata["k"]); c.Pairs < 10_000*pipewire.PairBytes || kept == 0 || kept > pipewire.MaxPairs/pipewire.PairBytes {
			t.Errorf("%d bytes are counted, %d pairs are kept", c.Pairs, kept)
		}
		return nil
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

// FuzzRequests reads what protobuf reads, and the same of it.
func FuzzRequests(f *testing.F) {
	f.Add([]byte{0x0a, 0x05, 0xff})
	f.Add([]byte{0x0a, 0x09, 0x08, 0x01, 0x12, 0x01, 'm', 0x1a, 0x02, 'r', 'q'})
	f.Add([]byte{0x10, 0x01, 0x12, 0x02, 0x02, 0x03, 0x7b, 0x7c})
	f.Add([]byte{0x0a, 0x0a, 0x2a, 0x08, 0x0a, 0x01, 'k', 0x12, 0x01, 'v', 0x18, 0x01})
	f.Add(bytes.Repeat([]byte{0x0a, 0x02, 0x2a, 0x00}, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2_000 {
			return // it may have more metadata than are read
		}
		got, err := request(b)
		if err != nil && !errors.Is(err, pipewire.ErrMalformed) {
			t.Fatalf("got error %v", err)
		}
		want := new(pipelinev1.CallsRequest)
		if proto.Unmarshal(b, want) != nil {
			return // protobuf refuses more: text that is no UTF-8
		}
		if err != nil {
			t.Fatalf("protobuf reads it as %v: %v", want, err)
		}
		if len(got.GetCalls()) != len(want.GetCalls()) || len(got.GetCancels()) != len(want.GetCancels()) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i, c := range want.GetCalls() {
			mine := got.GetCalls()[i]
			if mine.GetId() != c.GetId() || mine.GetMethod() != c.GetMethod() || !bytes.Equal(mine.GetRequest(), c.GetRequest()) || len(mine.GetMetadata()) != len(c.GetMetadata()) {
				t.Fatalf("got %v, want %v", mine, c)
			}
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0x0a, 0x04, 0x08, 0x01, 0x12, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		err := pipewire.Answers(b, func(*pipewire.Answer) { n++ })
		want := new(pipelinev1.CallsResponse)
		if proto.Unmarshal(b, want) == nil && (err != nil || n != len(want.GetAnswers())) {
			t.Fatalf("read %d answers, %v; protobuf reads %v", n, err, want)
		}
	})
}
