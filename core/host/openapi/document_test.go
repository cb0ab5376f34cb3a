package openapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// everything has a field of every kind that protojson treats in its own way.
const everything = `
name: "openapi/test/v1/all.proto" package: "openapi.test.v1" syntax: "proto3"
dependency: "google/protobuf/any.proto" dependency: "google/protobuf/duration.proto" dependency: "google/protobuf/empty.proto"
dependency: "google/protobuf/field_mask.proto" dependency: "google/protobuf/struct.proto" dependency: "google/protobuf/timestamp.proto"
dependency: "google/protobuf/wrappers.proto"
enum_type { name: "Mode" value { name: "MODE_UNSPECIFIED" number: 0 } value { name: "MODE_READ" number: 1 } }
message_type {
  name: "All"
  field { name: "a_bool" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL json_name: "aBool" }
  field { name: "i32" number: 2 type: TYPE_SINT32 label: LABEL_OPTIONAL json_name: "i32" }
  field { name: "u32" number: 3 type: TYPE_FIXED32 label: LABEL_OPTIONAL json_name: "u32" }
  field { name: "i64" number: 4 type: TYPE_INT64 label: LABEL_OPTIONAL json_name: "i64" }
  field { name: "u64" number: 5 type: TYPE_UINT64 label: LABEL_OPTIONAL json_name: "u64" }
  field { name: "f" number: 6 type: TYPE_FLOAT label: LABEL_OPTIONAL json_name: "f" }
  field { name: "d" number: 7 type: TYPE_DOUBLE label: LABEL_OPTIONAL json_name: "d" }
  field { name: "s" number: 8 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "s" }
  field { name: "b" number: 9 type: TYPE_BYTES label: LABEL_OPTIONAL json_name: "b" }
  field { name: "mode" number: 10 type: TYPE_ENUM type_name: ".openapi.test.v1.Mode" label: LABEL_OPTIONAL json_name: "mode" }
  field { name: "any" number: 11 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL json_name: "any" }
  field { name: "ttl" number: 12 type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" label: LABEL_OPTIONAL json_name: "ttl" }
  field { name: "empty" number: 13 type: TYPE_MESSAGE type_name: ".google.protobuf.Empty" label: LABEL_OPTIONAL json_name: "empty" }
  field { name: "mask" number: 14 type: TYPE_MESSAGE type_name: ".google.protobuf.FieldMask" label: LABEL_OPTIONAL json_name: "mask" }
  field { name: "struct" number: 15 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" label: LABEL_OPTIONAL json_name: "struct" }
  field { name: "value" number: 16 type: TYPE_MESSAGE type_name: ".google.protobuf.Value" label: LABEL_OPTIONAL json_name: "value" }
  field { name: "list" number: 17 type: TYPE_MESSAGE type_name: ".google.protobuf.ListValue" label: LABEL_OPTIONAL json_name: "list" }
  field { name: "null" number: 18 type: TYPE_ENUM type_name: ".google.protobuf.NullValue" label: LABEL_OPTIONAL json_name: "null" }
  field { name: "at" number: 19 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL json_name: "at" }
  field { name: "wrapped" number: 20 type: TYPE_MESSAGE type_name: ".google.protobuf.UInt64Value" label: LABEL_OPTIONAL json_name: "wrapped" }
  field { name: "children" number: 21 type: TYPE_MESSAGE type_name: ".openapi.test.v1.All" label: LABEL_REPEATED json_name: "children" }
  field { name: "by_number" number: 22 type: TYPE_MESSAGE type_name: ".openapi.test.v1.All.ByNumberEntry" label: LABEL_REPEATED json_name: "byNumber" }
  field { name: "left" number: 23 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "left" oneof_index: 0 }
  field { name: "right" number: 24 type: TYPE_INT64 label: LABEL_OPTIONAL json_name: "right" oneof_index: 0 }
  field { name: "maybe" number: 25 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "maybe" oneof_index: 1 proto3_optional: true }
  field { name: "old" number: 26 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "old" options { deprecated: true } }
  oneof_decl { name: "side" } oneof_decl { name: "_maybe" }
  nested_type {
    name: "ByNumberEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL json_name: "key" }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".openapi.test.v1.All" label: LABEL_OPTIONAL json_name: "value" }
  }
}
service {
  name: "AllService"
  method { name: "Do" input_type: ".openapi.test.v1.All" output_type: ".openapi.test.v1.All" options { deprecated: true } }
  method { name: "Read" input_type: ".openapi.test.v1.All" output_type: ".google.protobuf.Empty" options { idempotency_level: NO_SIDE_EFFECTS } }
  method { name: "Watch" input_type: ".openapi.test.v1.All" output_type: ".openapi.test.v1.All" server_streaming: true options { idempotency_level: NO_SIDE_EFFECTS } }
  method { name: "Send" input_type: ".openapi.test.v1.All" output_type: ".openapi.test.v1.All" client_streaming: true }
}
source_code_info { location { path: [4, 0] span: [1, 1, 1] leading_comments: " All has\n everything.\n" } }`

func file(tb testing.TB, text string) protoreflect.FileDescriptor {
	tb.Helper()
	var f descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(text), &f); err != nil {
		tb.Fatal(err)
	}
	fd, err := protodesc.NewFile(&f, protoregistry.GlobalFiles)
	if err != nil {
		tb.Fatal(err)
	}
	return fd
}

func services(tb testing.TB) []protoreflect.ServiceDescriptor {
	tb.Helper()
	return []protoreflect.ServiceDescriptor{
		lockv1.File_conclave_lock_v1_lock_proto.Services().Get(0),
		sessionv1.File_conclave_session_v1_session_proto.Services().Get(0),
		file(tb, everything).Services().Get(0),
	}
}

// document returns the document of services, decoded.
func document(tb testing.TB, services ...protoreflect.ServiceDescriptor) map[string]any {
	tb.Helper()
	text, err := openapi.Document(services, "1.2.3")
	if err != nil {
		tb.Fatal(err)
	}
	var d map[string]any
	if err := json.Unmarshal(text, &d); err != nil {
		tb.Fatal(err)
	}
	return d
}

// at follows names into a document.
func at(tb testing.TB, v any, names ...string) any {
	tb.Helper()
	for _, n := range names {
		o, ok := v.(map[string]any)
		if !ok || o[n] == nil {
			tb.Fatalf("no %q of %q", n, names)
		}
		v = o[n]
	}
	return v
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	all := services(t)
	a, err := openapi.Document(all, "1")
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all)
	b, err := openapi.Document(all, "1")
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the order of services changes the document, %v", err)
	}
	if _, err := openapi.Document(append(all, all[0]), "1"); err == nil {
		t.Error("a service that comes twice is no error")
	}
	if _, err := openapi.Document(nil, "1"); err != nil {
		t.Errorf("no services: %v", err)
	}
}

// TestReferences resolves every one, and finds no component that nothing names.
func TestReferences(t *testing.T) {
	t.Parallel()
	d := document(t, services(t)...)
	used := map[string]bool{}
	each(d, func(o map[string]any) {
		r, ok := o["$ref"].(string)
		if !ok {
			return
		}
		names := strings.Split(strings.TrimPrefix(r, "#/"), "/")
		at(t, d, names...)
		used[names[len(names)-1]] = true
	})
	schemas, _ := at(t, d, "components", "schemas").(map[string]any)
	for name := range schemas {
		if !used[name] {
			t.Errorf("nothing refers to %s", name)
		}
	}
}

func each(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, m := range v {
			each(m, f)
		}
	case []any:
		for _, m := range v {
			each(m, f)
		}
	}
}

func TestStructure(t *testing.T) {
	t.Parallel()
	d := document(t, services(t)...)
	if got := at(t, d, "openapi"); got != "3.1.0" {
		t.Errorf("openapi is %v", got)
	}
	if got := at(t, d, "info", "version"); got != "1.2.3" {
		t.Errorf("version is %v", got)
	}
	ids := map[any]bool{}
	paths, _ := at(t, d, "paths").(map[string]any)
	for path, item := range paths {
		for method, op := range item.(map[string]any) {
			if id := at(t, op, "operationId"); ids[id] {
				t.Errorf("%s %s: operationId %v comes twice", method, path, id)
			} else {
				ids[id] = true
			}
			at(t, op, "responses", "200", "description")
			at(t, op, "responses", "default", "$ref")
			if at(t, op, "x-conclave-permission") == "unspecified" {
				t.Errorf("%s %s: the permission is open", method, path)
			}
		}
	}
	const all = "/openapi.test.v1.AllService/"
	if paths[all+"Send"] != nil {
		t.Error("a stream of requests has no form in JSON")
	}
	if at(t, paths, all+"Do", "post", "deprecated") != true || paths[all+"Do"].(map[string]any)["get"] != nil {
		t.Error("Do is not deprecated, or answers GET")
	}
	at(t, paths, all+"Read", "get", "parameters")
	at(t, paths, all+"Watch", "post", "responses", "200", "content", "application/x-ndjson", "schema", "oneOf")
	if paths[all+"Watch"].(map[string]any)["get"] != nil {
		t.Error("a stream answers GET")
	}
	acquire := at(t, paths, "/conclave.lock.v1.LockService/Acquire", "post")
	if at(t, acquire, "x-conclave-session-field") != "sessionId" || at(t, acquire, "summary") == "" || at(t, acquire, "x-conclave-permission") != "write" {
		t.Errorf("Acquire is %v", acquire)
	}
	if got := at(t, d, "components", "schemas", "openapi.test.v1.All", "description"); got != "All has\neverything." {
		t.Errorf("description is %q", got)
	}
	if at(t, d, "components", "schemas", "openapi.test.v1.All", "properties", "old", "deprecated") != true {
		t.Error("old is not deprecated")
	}
}

// TestSameNames has two plugins with different messages of one name.
func TestSameNames(t *testing.T) {
	t.Parallel()
	other := strings.NewReplacer("AllService", "OtherService", "all.proto", "other.proto", `name: "old"`, `name: "odd"`, `"old"`, `"odd"`).Replace(everything)
	d := document(t, file(t, everything).Services().Get(0), file(t, other).Services().Get(0))
	at(t, d, "components", "schemas", "openapi.test.v1.All", "properties", "old")
	at(t, d, "components", "schemas", "openapi.test.v1.All-2", "properties", "odd")
	schemas, _ := at(t, d, "components", "schemas").(map[string]any)
	if schemas["openapi.test.v1.Mode-2"] != nil {
		t.Error("the same enum has two names")
	}
}

// TestSchemas holds what protojson writes, and what it refuses, against the
// schemas.
func TestSchemas(t *testing.T) {
	t.Parallel()
	all := file(t, everything)
	d := document(t, all.Services().Get(0))
	v := validator{document: d}
	schema := map[string]any{"$ref": "#/components/schemas/openapi.test.v1.All"}
	for text, valid := range map[string]bool{
		`{}`: true,
		`{"aBool":true,"i32":-1,"u32":1,"i64":"-9007199254740993","u64":"1","f":1.5,"d":"NaN","s":"x","b":"AA==","mode":"MODE_READ"}`: true,
		`{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"},"ttl":"1.500s","empty":{},"mask":"a,b"}`:        true,
		`{"struct":{"a":[1,null]},"value":"x","list":[1,{}],"null":null,"at":"2026-01-02T03:04:05.6Z","wrapped":"7"}`:                 true,
		`{"children":[{"children":[{"left":"x"}]}],"byNumber":{"-1":{"right":"1"}},"maybe":""}`:                                       true,
		`{"left":"x","right":"1"}`:       false,
		`{"nix":1}`:                      false,
		`{"children":[{"nix":1}]}`:       false,
		`{"ttl":"1m"}`:                   false,
		`{"mode":"MODE_WRITE"}`:          false,
		`{"byNumber":{"x":{}}}`:          false,
		`{"s":1}`:                        false,
		`{"children":{}}`:                false,
		`{"byNumber":{"1":{"i32":"x"}}}`: false,
	} {
		m := dynamicpb.NewMessage(all.Messages().Get(0))
		err := protojson.UnmarshalOptions{}.Unmarshal([]byte(text), m)
		if (err == nil) != valid {
			t.Fatalf("protojson on %s: %v", text, err)
		}
		written := []byte(text)
		if valid {
			if written, err = (protojson.MarshalOptions{EmitDefaultValues: true}).Marshal(m); err != nil {
				t.Fatal(err)
			}
		}
		var value any
		if err := json.Unmarshal(written, &value); err != nil {
			t.Fatal(err)
		}
		if problem := v.check(schema, value); (problem == "") != valid {
			t.Errorf("%s: valid is %v, problem is %q", written, valid, problem)
		}
	}
}

// A validator knows as much of JSON Schema as the document uses.
type validator struct{ document any }

func (v validator) check(schema map[string]any, value any) string {
	for keyword, arg := range schema {
		if problem := v.keyword(schema, keyword, arg, value); problem != "" {
			return problem
		}
	}
	return ""
}

func (v validator) keyword(schema map[string]any, keyword string, arg, value any) string {
	o, isObject := value.(map[string]any)
	text, isText := value.(string)
	switch keyword {
	case "$ref":
		target := v.document
		for n := range strings.SplitSeq(strings.TrimPrefix(arg.(string), "#/"), "/") {
			target = target.(map[string]any)[n]
		}
		return v.check(target.(map[string]any), value)
	case "type":
		if !isType(arg.(string), value) {
			return fmt.Sprintf("%v is no %v", value, arg)
		}
	case "enum":
		if !slices.Contains(arg.([]any), value) {
			return fmt.Sprintf("%v is not in %v", value, arg)
		}
	case "pattern":
		if isText && !regexp.MustCompile(arg.(string)).MatchString(text) {
			return fmt.Sprintf("%q does not match %v", text, arg)
		}
	case "required":
		for _, name := range arg.([]any) {
			if _, has := o[name.(string)]; isObject && !has {
				return fmt.Sprintf("%v is missing", name)
			}
		}
	case "minimum":
		if n, ok := value.(float64); ok && n < arg.(float64) {
			return "too small"
		}
	case "items":
		list, _ := value.([]any)
		for _, item := range list {
			if p := v.check(arg.(map[string]any), item); p != "" {
				return p
			}
		}
	case "properties":
		for name, s := range arg.(map[string]any) {
			if member, has := o[name]; has {
				if p := v.check(s.(map[string]any), member); p != "" {
					return name + ": " + p
				}
			}
		}
	case "propertyNames":
		for name := range o {
			if p := v.check(arg.(map[string]any), name); p != "" {
				return p
			}
		}
	case "additionalProperties":
		properties, _ := schema["properties"].(map[string]any)
		for name, member := range o {
			if properties[name] != nil {
				continue
			}
			s, ok := arg.(map[string]any)
			if !ok {
				return name + " is unknown"
			}
			if p := v.check(s, member); p != "" {
				return name + ": " + p
			}
		}
	case "allOf", "anyOf", "oneOf":
		valid := 0
		for _, s := range arg.([]any) {
			if v.check(s.(map[string]any), value) == "" {
				valid++
			}
		}
		if keyword == "allOf" && valid < len(arg.([]any)) || valid == 0 || keyword == "oneOf" && valid > 1 {
			return fmt.Sprintf("%d of %s hold", valid, keyword)
		}
	case "not":
		if v.check(arg.(map[string]any), value) == "" {
			return "not"
		}
	case "format", "contentEncoding", "description", "examples", "deprecated":
	default:
		return "unknown keyword " + keyword
	}
	return ""
}

func isType(name string, value any) bool {
	switch v := value.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && v == float64(int64(v))
	case []any:
		return name == "array"
	default:
		return name == "object"
	}
}
