package core

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A Codec turns values into the bytes that stand in etcd, and back. It is safe
// for concurrent use, keeps no reference to what it is given, and its errors
// never quote the value, since they end in logs.
type Codec interface {
	// Name says what the bytes are, such as "json". Records carry it for people
	// and tools; a reader decodes with the codec that it has.
	Name() string
	// Encode returns the bytes of v. The same v gives the same bytes.
	Encode(v any) ([]byte, error)
	// Decode writes what Encode was given to *v, a pointer to a value of its type.
	// Bytes that Encode cannot have returned are an error, whatever they are;
	// *v is then undefined.
	Decode(data []byte, v any) error
}

// JSON is the codec of encoding/json, and what every recipe uses unless it is
// told otherwise. Anything but one JSON value is an error, and so are no bytes at
// all: a file that was emptied by accident is never a zero value.
type JSON struct {
	// Strict refuses object fields that the Go type does not have, which finds
	// typing errors and also every field that a later version adds.
	Strict bool
}

// Text is the codec of strings, and of types that marshal themselves to text.
type Text struct{}

// Bytes is the codec of []byte: as they are.
type Bytes struct{}

var (
	_ Codec = JSON{}
	_ Codec = Text{}
	_ Codec = Bytes{}
)

// Name is "json".
func (JSON) Name() string { return "json" }

// Encode returns v as compact JSON.
func (JSON) Encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	return data, nil
}

// Decode reads one JSON value.
func (c JSON) Decode(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if c.Strict {
		dec.DisallowUnknownFields()
	}
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return errors.New("json: there is no value")
	}
	if err != nil {
		return fmt.Errorf("json: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("json: something follows the value")
	}
	return nil
}

// Name is "text".
func (Text) Name() string { return "text" }

// Encode returns the bytes of a string, or of what encoding.TextMarshaler makes.
func (Text) Encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case encoding.TextMarshaler:
		data, err := v.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("text: %w", err)
		}
		return bytes.Clone(data), nil
	default:
		return nil, fmt.Errorf("text: %T is neither a string nor an encoding.TextMarshaler", v)
	}
}

// Decode fills a *string, or an encoding.TextUnmarshaler.
func (Text) Decode(data []byte, v any) error {
	switch v := v.(type) {
	case *string:
		*v = string(data)
		return nil
	case encoding.TextUnmarshaler:
		if err := v.UnmarshalText(bytes.Clone(data)); err != nil {
			return fmt.Errorf("text: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("text: %T is neither a *string nor an encoding.TextUnmarshaler", v)
	}
}

// Name is "bytes".
func (Bytes) Name() string { return "bytes" }

// Encode returns a copy of a []byte.
func (Bytes) Encode(v any) ([]byte, error) {
	data, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("bytes: %T is not a []byte", v)
	}
	return bytes.Clone(data), nil
}

// Decode fills a *[]byte with a copy.
func (Bytes) Decode(data []byte, v any) error {
	target, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("bytes: %T is not a *[]byte", v)
	}
	*target = bytes.Clone(data)
	return nil
}
