// Package scaffold writes the project of a new recipe: one that builds and passes
// its tests as it is, in Go or in Python.
//
// What a generator would make of the project's .proto file is made here, so that
// whoever begins needs none; a test holds it to what buf makes.
package scaffold
