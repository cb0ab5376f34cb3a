// Package pipelinev1 is conclave.pipeline.v1, as generated from pipeline.proto:
// many unary calls in one stream.
//
// The contract is pipeline.proto; the comments here are its own. A Go program
// needs none of this: [github.com/conclavehq/conclave/core/pipeline] lets every
// generated client use it.
package pipelinev1
