package core_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/conclavehq/conclave/core"
)

type limits struct {
	Rate  int `json:"rate"`
	Burst int `json:"burst,omitempty"`
}

func TestCodecsReturnWhatTheyWereGiven(t *testing.T) {
	for _, tt := range []struct {
		codec core.Codec
		value any
		bytes string
	}{
		{core.JSON{}, limits{Rate: 5}, `{"rate":5}`},
		{core.JSON{Strict: true}, limits{Rate: 5, Burst: 2}, `{"rate":5,"burst":2}`},
		{core.JSON{}, "", `""`},
		{core.Text{}, "as it is\n", "as it is\n"},
		{core.Text{}, netip.MustParseAddr("192.0.2.1"), "192.0.2.1"},
		{core.Bytes{}, []byte{0, 255}, "\x00\xff"},
	} {
		data, err := tt.codec.Encode(tt.value)
		if err != nil || string(data) != tt.bytes {
			t.Errorf("%s: %v became %q, %v", tt.codec.Name(), tt.value, data, err)
			continue
		}
		back := reflect.New(reflect.TypeOf(tt.value))
		if err := tt.codec.Decode(data, back.Interface()); err != nil {
			t.Errorf("%s: %q: %v", tt.codec.Name(), data, err)
		} else if !reflect.DeepEqual(back.Elem().Interface(), tt.value) {
			t.Errorf("%s: %v came back as %v", tt.codec.Name(), tt.value, back.Elem())
		}
	}
}

func TestCodecsRefuse(t *testing.T) {
	for _, tt := range []struct {
		codec  core.Codec
		data   string
		target any
	}{
		{core.JSON{}, "", new(limits)},
		{core.JSON{}, " \n", new(limits)},
		{core.JSON{}, `{"rate":5} x`, new(limits)},
		{core.JSON{}, `{"rate":5}{}`, new(limits)},
		{core.JSON{}, `{"rate":"five"}`, new(limits)},
		{core.JSON{Strict: true}, `{"rat":5}`, new(limits)},
		{core.Text{}, "5", new(int)},
		{core.Text{}, "no address", new(netip.Addr)},
		{core.Bytes{}, "x", new(string)},
	} {
		if err := tt.codec.Decode([]byte(tt.data), tt.target); err == nil {
			t.Errorf("%s: %q was taken", tt.codec.Name(), tt.data)
		}
	}
	for _, codec := range []core.Codec{core.JSON{}, core.Text{}, core.Bytes{}} {
		if _, err := codec.Encode(make(chan int)); err == nil {
			t.Errorf("%s: a channel was encoded", codec.Name())
		}
	}
	if err := (core.JSON{}).Decode([]byte(`{"rat":5}`), new(limits)); err != nil {
		t.Errorf("an unknown field was refused without Strict: %v", err)
	}
}
