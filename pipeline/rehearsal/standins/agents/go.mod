module ovenproof.invalid/standins

go 1.24
