package edge

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclavehq/conclave/internal/suggest"
)

// strictJSON is JSON that refuses what it does not know, says where, and is
// written the same way by every build.
type strictJSON struct {
	read  protojson.UnmarshalOptions
	write protojson.MarshalOptions
}

func newStrictJSON(resolver vanguard.TypeResolver) vanguard.Codec {
	return strictJSON{
		read:  protojson.UnmarshalOptions{Resolver: resolver},
		write: protojson.MarshalOptions{Resolver: resolver, EmitDefaultValues: true},
	}
}

// Name implements [vanguard.Codec].
func (strictJSON) Name() string { return vanguard.CodecJSON }

// MarshalAppend implements [vanguard.Codec].
func (c strictJSON) MarshalAppend(base []byte, m proto.Message) ([]byte, error) {
	out, err := c.write.MarshalAppend(base, m)
	if err != nil {
		return nil, err
	}
	// protojson puts white space in on purpose, differently in every build.
	// Compact only removes, so it may write where it reads.
	compact := bytes.NewBuffer(out[len(base):len(base)])
	if err := json.Compact(compact, out[len(base):]); err != nil {
		return nil, err
	}
	return out[:len(base)+compact.Len()], nil
}

// Unmarshal implements [vanguard.Codec]. The error is one of the caller's: with
// any other the transcoder answers 500.
func (c strictJSON) Unmarshal(data []byte, m proto.Message) error {
	err := c.read.Unmarshal(data, m)
	if err == nil {
		return nil
	}
	return badJSON(data, m.ProtoReflect().Descriptor(), err).connect()
}

var (
	positioned = regexp.MustCompile(`\(line (\d+):(\d+)\): `)
	unknown    = regexp.MustCompile(`unknown field "([^"]*)"`)
)

// badJSON says what is wrong with a request: protojson's text, behind the path of
// the field that it is about.
func badJSON(data []byte, md protoreflect.MessageDescriptor, err error) *problem {
	// protojson's prefix ends with a space that is one of two at random.
	text := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
	text = shorten(strings.ReplaceAll(text, "\u00a0", " "))
	at := positioned.FindStringSubmatch(text)
	if at == nil {
		return invalid("invalid_request", "%s: %s", md.FullName(), text)
	}
	text = strings.Replace(text, at[0], "", 1)
	path, inside := locate(data, md, at[1], at[2])
	if wrong := unknown.FindStringSubmatch(text); wrong != nil && inside != nil {
		text += fmt.Sprintf(" in %s", inside.FullName())
		if meant := meant(wrong[1], inside); meant != "" {
			text += fmt.Sprintf("; did you mean %q?", meant)
		}
	} else if path != "" {
		text = shorten(path) + ": " + text
	}
	return invalid("invalid_request", "%s (line %s:%s)", text, at[1], at[2])
}

// maxName bounds the names that are compared with those of fields: the time is
// the product of their lengths.
const maxName = 64

// meant returns the field that a name was probably to be, or "".
func meant(name string, md protoreflect.MessageDescriptor) string {
	if len(name) > maxName {
		return ""
	}
	names := make([]string, 0, md.Fields().Len())
	for i := range md.Fields().Len() {
		names = append(names, md.Fields().Get(i).JSONName())
	}
	return suggest.Closest(name, names)
}

// locate returns the path of the value or the name at a line and column, and the
// message that it is in, nil if that is not known.
func locate(data []byte, md protoreflect.MessageDescriptor, line, column string) (string, protoreflect.MessageDescriptor) {
	l, lerr := strconv.Atoi(line)
	col, cerr := strconv.Atoi(column)
	if lerr != nil || cerr != nil {
		return "", md
	}
	offset := 0
	for ; l > 1; l-- {
		i := bytes.IndexByte(data[offset:], '\n')
		if i < 0 {
			return "", md
		}
		offset += i + 1
	}
	w := walker{dec: json.NewDecoder(bytes.NewReader(data)), until: int64(offset + col)}
	return w.walk(md, nil)
}

// A walker follows the tokens of a document up to a place in it.
type walker struct {
	dec   *json.Decoder
	until int64
	path  []string
	in    protoreflect.MessageDescriptor
	found bool
}

// walk reads one value, which is of a message if md is not nil, and of field if
// that is not nil. It returns once it has read the place.
func (w *walker) walk(md protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor) (string, protoreflect.MessageDescriptor) {
	w.value(md, field)
	return strings.TrimPrefix(strings.Join(w.path, ""), "."), w.in
}

func (w *walker) value(md protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor) {
	w.in = md
	token, err := w.dec.Token()
	if err != nil {
		w.found = true // the place is where the document ends
		return
	}
	if w.here() {
		return
	}
	switch token {
	case json.Delim('{'):
		w.object(md, field)
	case json.Delim('['):
		w.list(md)
	}
}

// here reports whether what was read last is the place.
func (w *walker) here() bool {
	w.found = w.found || w.dec.InputOffset() >= w.until
	return w.found
}

func (w *walker) object(md protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor) {
	for w.dec.More() {
		token, err := w.dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			w.found = true
			return
		}
		if w.here() {
			return // a name: the path is of what it would be a field of
		}
		w.path = append(w.path, "."+name)
		if w.value(memberOf(md, field, name)); w.found {
			return
		}
		w.path, w.in = w.path[:len(w.path)-1], md
	}
	_, _ = w.dec.Token()
}

func (w *walker) list(md protoreflect.MessageDescriptor) {
	for i := 0; w.dec.More(); i++ {
		w.path = append(w.path, "["+strconv.Itoa(i)+"]")
		if w.value(md, nil); w.found {
			return
		}
		w.path = w.path[:len(w.path)-1]
	}
	_, _ = w.dec.Token()
}

// memberOf returns the type of a member: of a message's field, or of a map's
// value.
func memberOf(md protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, name string) (protoreflect.MessageDescriptor, protoreflect.FieldDescriptor) {
	if field != nil && field.IsMap() {
		return field.MapValue().Message(), nil
	}
	if md == nil {
		return nil, nil
	}
	f := md.Fields().ByJSONName(name)
	if f == nil {
		f = md.Fields().ByTextName(name)
	}
	switch {
	case f == nil:
		return nil, nil
	case f.IsMap():
		return nil, f
	}
	return f.Message(), f
}

// boundedGzip decompresses up to the limit: what is small on the wire can be a
// thousand times as long in memory.
func boundedGzip(limit int) vanguard.TranscoderOption {
	return vanguard.WithCompression(vanguard.CompressionGzip,
		func() connect.Compressor { return gzip.NewWriter(io.Discard) },
		func() connect.Decompressor { return &boundedReader{limit: limit} })
}

// A boundedReader fails when it has decompressed too much.
type boundedReader struct {
	gzip.Reader
	limit, left int
}

// Read implements [io.Reader].
func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, tooLong(b.limit).connect()
	}
	n, err := b.Reader.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, tooLong(b.limit).connect()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, invalid("invalid_request", "the request is not gzip: %v", err).connect()
	}
	return n, err
}

// Reset implements [connect.Decompressor].
func (b *boundedReader) Reset(r io.Reader) error {
	b.left = b.limit
	if err := b.Reader.Reset(r); err != nil {
		return invalid("invalid_request", "the request is not gzip: %v", err).connect()
	}
	return nil
}
