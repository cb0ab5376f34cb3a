package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// recordVersion is the version of the layout of records.
const recordVersion = 1

// A record is a version as it stands in etcd and on disk: a line of JSON, and
// the value.
type record struct {
	header

	value []byte
}

// header is the line. Its fields are documented in docs/protocol-config.md.
type header struct {
	V         int       `json:"v"`
	Namespace string    `json:"namespace,omitempty"` // on disk only, like the next two
	Key       string    `json:"key,omitempty"`
	Revision  int64     `json:"revision,omitempty"`
	Number    int64     `json:"number"`
	Codec     string    `json:"codec,omitempty"`
	Deleted   bool      `json:"deleted,omitempty"`
	Author    string    `json:"author,omitempty"`
	Message   string    `json:"message,omitempty"`
	Time      time.Time `json:"time"`
	ID        string    `json:"id,omitempty"`
	Of        int64     `json:"of,omitempty"`
	Base      int64     `json:"base,omitempty"` // of a rollout's candidate only
	Size      int       `json:"size"`
	CRC       string    `json:"crc,omitempty"`
}

// sum is CRC-32C in hexadecimal digits. It finds accidents, such as a value that
// was changed by hand or a file that was cut off, not forgeries.
func sum(value []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(value, crc32.MakeTable(crc32.Castagnoli)))
}

// encode returns the record's bytes, with size and sum filled in.
func (r record) encode() ([]byte, error) {
	r.V, r.Size = recordVersion, len(r.value)
	if r.CRC = ""; !r.Deleted {
		r.CRC = sum(r.value)
	}
	line, err := json.Marshal(r.header)
	if err != nil {
		return nil, fmt.Errorf("encode the header: %w", err)
	}
	line = append(line, '\n')
	return append(line, r.value...), nil
}

// What is wrong with a record.
var (
	errEmpty   = errors.New("it is empty")
	errNoLine  = errors.New("it is not a version: its header is missing")
	errNewer   = errors.New("its layout is of a later version of conclave")
	errCut     = errors.New("the value does not have the size that its header names: it was cut off, or changed by hand")
	errChanged = errors.New("the value does not match the sum in its header: it was changed by hand")
)

// decode reads a record. Its error is one of the above or about JSON, and never
// quotes the value. It never panics, whatever the bytes are.
func decode(data []byte) (record, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return record{}, errEmpty
	}
	line, value, ok := bytes.Cut(data, []byte("\n"))
	if !ok || len(line) == 0 || line[0] != '{' {
		return record{}, errNoLine
	}
	r := record{value: value}
	if err := json.Unmarshal(line, &r.header); err != nil || r.Number < 1 {
		return record{}, errNoLine
	}
	switch {
	case r.V > recordVersion:
		return record{}, errNewer
	case r.V < recordVersion:
		return record{}, errNoLine
	case r.Size != len(value):
		return record{}, errCut
	case r.Deleted && len(value) > 0:
		return record{}, errChanged
	case r.Deleted:
		return r, nil
	case len(value) == 0:
		return record{}, errEmpty
	case r.CRC != sum(value):
		return record{}, errChanged
	}
	return r, nil
}
