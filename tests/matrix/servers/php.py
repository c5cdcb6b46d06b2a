"""php -S localhost:8080: one address of one family."""
from server import Server

SERVER = Server(
    port=8080, type="php", ci=True, commands=[["php", "-S", "localhost:8080"]], same_output=False, needs=("php",),
    files={"index.php": "<?php echo '@CONTENT@';\n"})
