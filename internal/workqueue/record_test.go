package workqueue

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestARecordComesBackAsItWas(t *testing.T) {
	for _, r := range []Record{
		{},
		{At: 1_700_000_000_000, Codec: "json", Payload: []byte(`{"a":"\n"}`)},
		{At: -1, Codec: "x", Priority: -128, Attempts: 3, Order: 1 << 60, Index: 55, Group: "g", Reason: "why", Payload: []byte("\n\n")},
		{Group: `quote " backslash \ line` + "\n\u2028<>", Reason: "größe", Payload: []byte{0, 0xff}},
	} {
		got, err := decode([]byte(r.encode()))
		if len(r.Payload) == 0 {
			r.Payload, got.Payload = nil, nil
		}
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("wrote %+v, read %+v, %v", r, got, err)
		}
	}
}

func TestFieldsOfLaterVersionsAreKept(t *testing.T) {
	const later = `{"v":2,"at":7,"shiny":{"b":[1]},"n":4,"also":"x"}` + "\npayload"
	r, err := decode([]byte(later))
	if err != nil || r.At != 7 || r.Attempts != 4 || string(r.Payload) != "payload" {
		t.Fatalf("read %+v, %v", r, err)
	}
	r.Attempts++
	if got := r.encode(); !strings.Contains(got, `"also":"x"`) || !strings.Contains(got, `"shiny":{"b":[1]}`) || !strings.Contains(got, `"n":5`) {
		t.Errorf("wrote %s", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"at":1,"codec":"json","p":-3,"n":2,"ord":9,"i":1,"group":"g","why":"w"}` + "\nx"))
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"v":1,"at":1,"p":1000}` + "\n"))
	f.Add([]byte(`{"v":1,"at":1,"codec":"a\"b"}` + "\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decode(value)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("an error of another sort: %v", err)
			}
			return
		}
		again, err := decode([]byte(r.encode()))
		if err != nil || again.At != r.At || again.Order != r.Order || again.Attempts != r.Attempts || !bytes.Equal(again.Payload, r.Payload) {
			t.Errorf("read %+v, wrote and read %+v, %v", r, again, err)
		}
	})
}
