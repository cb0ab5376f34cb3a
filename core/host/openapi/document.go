// Package openapi describes services in OpenAPI 3.1, as the HTTP side of a host
// serves them: in JSON, one path a method.
package openapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// object is a JSON object. Its members are written in the order of their names,
// which makes documents of the same services the same bytes.
type object = map[string]any

const (
	jsonType  = "application/json"
	linesType = "application/x-ndjson"
)

// Document returns the OpenAPI 3.1 document of the services, for a server of the
// given version. Methods whose callers send a stream are left out: they have no
// form in plain JSON. The same services and version make the same bytes, in
// whatever order they come. It is an error if a service comes twice.
func Document(services []protoreflect.ServiceDescriptor, version string) ([]byte, error) {
	services = slices.SortedFunc(slices.Values(services), func(a, b protoreflect.ServiceDescriptor) int {
		return cmp.Compare(a.FullName(), b.FullName())
	})
	s := newSchemas()
	paths, tags := object{}, []object{}
	for i, sd := range services {
		if i > 0 && services[i-1].FullName() == sd.FullName() {
			return nil, fmt.Errorf("openapi: service %q comes twice", sd.FullName())
		}
		tags = append(tags, withText(object{"name": sd.FullName()}, comment(sd)))
		for j := range sd.Methods().Len() {
			md := sd.Methods().Get(j)
			if !md.IsStreamingClient() {
				paths[fmt.Sprintf("/%s/%s", sd.FullName(), md.Name())] = path(md, s)
			}
		}
	}
	return encode(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Conclave", "version": version,
			"description": "The services of a Conclave host. Every method is a POST of a JSON object, and answers with one; " +
				"a method that streams answers with one object a line. Fields that have their default may be absent, unknown fields are refused.",
		},
		"servers":    []object{{"url": "/"}},
		"tags":       tags,
		"paths":      paths,
		"components": object{"schemas": s.all, "responses": object{"Error": errorResponse()}},
	})
}

func encode(document object) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(document); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	return b.Bytes(), nil
}

// path describes one method.
func path(md protoreflect.MethodDescriptor, s *schemas) object {
	post := operation(md, s)
	post["requestBody"] = object{"required": true, "content": object{jsonType: object{"schema": s.message(md.Input())}}}
	item := object{"post": post}
	options, _ := md.Options().(*descriptorpb.MethodOptions)
	if options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS && !md.IsStreamingServer() {
		get := operation(md, s)
		get["operationId"] = string(md.FullName()) + ".get"
		get["parameters"] = []object{{
			"name": "message", "in": "query", "description": "The request, in JSON. Absent: {}.",
			"content": object{jsonType: object{"schema": s.message(md.Input())}},
		}}
		item["get"] = get
	}
	return item
}

func operation(md protoreflect.MethodDescriptor, s *schemas) object {
	known, _ := proto.GetExtension(md.Options(), recipev1.E_Method).(*recipev1.Method)
	op := withText(object{
		"operationId":           md.FullName(),
		"tags":                  []any{md.Parent().FullName()},
		"responses":             object{"200": success(md, s), "default": object{"$ref": "#/components/responses/Error"}},
		"x-conclave-permission": permission(known.GetPermission()),
	}, comment(md))
	if summary := known.GetSummary(); summary != "" {
		op["summary"] = summary
	}
	if f := md.Input().Fields().ByName(protoreflect.Name(known.GetSessionField())); f != nil {
		op["x-conclave-session-field"] = f.JSONName()
		op["x-conclave-session-optional"] = known.GetSessionOptional()
	}
	options, _ := md.Options().(*descriptorpb.MethodOptions)
	if options.GetDeprecated() {
		op["deprecated"] = true
	}
	if level := options.GetIdempotencyLevel(); level != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
		op["x-conclave-idempotency"] = strings.ToLower(level.String())
	}
	return op
}

// permission returns what a caller needs; nothing said counts as admin.
func permission(p recipev1.Permission) string {
	if p == recipev1.Permission_PERMISSION_UNSPECIFIED {
		p = recipev1.Permission_PERMISSION_ADMIN
	}
	return strings.ToLower(strings.TrimPrefix(p.String(), "PERMISSION_"))
}

func success(md protoreflect.MethodDescriptor, s *schemas) object {
	if !md.IsStreamingServer() {
		return object{"description": http.StatusText(http.StatusOK), "content": object{jsonType: object{"schema": s.message(md.Output())}}}
	}
	line := object{"oneOf": []any{s.message(md.Output()), ref("ErrorLine")}}
	return object{
		"description": "One object a line, until the call ends. The last line is an error if it failed after the first.",
		"content":     object{linesType: object{"schema": line}},
	}
}

func errorResponse() object {
	return object{
		"description": "The call failed. The status is Connect's for the code.",
		"content":     object{jsonType: object{"schema": ref("Error")}},
	}
}

// comment returns what a descriptor's author wrote above it. Linked descriptors
// have none: the compiler leaves comments out.
func comment(d protoreflect.Descriptor) string {
	file := d.ParentFile()
	if file == nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(file.SourceLocations().ByDescriptor(d).LeadingComments), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return strings.Join(lines, "\n")
}

func withText(o object, description string) object {
	if description != "" {
		o["description"] = description
	}
	return o
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }
