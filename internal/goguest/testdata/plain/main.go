// A program that is neither a Lambda handler nor a transform.
package main

func main() {}
