package config

import (
	"bytes"
	"testing"
	"time"
)

// FuzzDecode: whatever stands in a key or in a file, it is a version that encodes
// to what it was read from, or an error.
func FuzzDecode(f *testing.F) {
	for _, r := range []record{
		{value: []byte("x"), header: header{Number: 1, Codec: "json", Author: "a\"b", Message: "ü", Time: time.Unix(1, 0).UTC()}},
		{header: header{Number: 7, Deleted: true}},
	} {
		data, err := r.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte(""))
	f.Add([]byte("\n"))
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"v":1,"number":-1}` + "\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		if r.Number < 1 || (len(r.value) == 0) != r.Deleted {
			t.Fatalf("%q is %+v", data, r)
		}
		again, err := r.encode()
		if err != nil {
			return // such as a year that JSON does not have
		}
		back, err := decode(again)
		if err != nil || !bytes.Equal(back.value, r.value) || back.Number != r.Number || back.Message != r.Message {
			t.Fatalf("%q became %q: %v", data, again, err)
		}
	})
}
