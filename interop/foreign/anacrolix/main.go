package main
import (
 _ "github.com/anacrolix/dht/v2"
 _ "github.com/anacrolix/dht/v2/bep44"
 _ "github.com/anacrolix/dht/v2/exts/getput"
)
func main(){}
