from ._draw import draw as draw
from ._style import style as style
from ._style import write as write
