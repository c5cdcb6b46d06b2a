<?php
readfile("content.txt");
